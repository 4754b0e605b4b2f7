# What is known only after an apply: the queue's URL, and with it user data. The provider is a mock.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = {
      arn = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-prod"
      id  = "https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1-prod"
    }
  }
}

variables {
  remote = {
    name      = "dev"
    filename  = "dev.npcnix"
    bucket    = { id = "acme", arn = "arn:aws:s3:::acme" }
    key       = "npcnix/remotes/dev.npcnix"
    url       = "s3://acme/npcnix/remotes/dev.npcnix"
    region    = "eu-central-1"
    events    = true
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-acme-npcnix-remotes-dev"
  }
  hostname               = "web1.prod"
  ami                    = "ami-1"
  install                = { install_script = "npcnix_boot" }
  subnet                 = { id = "subnet-1", vpc_id = "vpc-1" }
  internal_tcp_ports     = []
  vpc_security_group_ids = ["sg-monitoring"]
}

run "a_host_is_told_its_queue_and_may_use_it" {
  assert {
    condition     = length(module.host_queue) == 1 && length(module.host_policy) == 0
    error_message = "A remote with events gives the host no queue."
  }
  assert {
    condition     = startswith(output.user_data, "#!/usr/bin/env bash\n# shellcheck disable=SC2016 # keys and scripts stand in single quotes\nnpcnix_root_ssh_keys=''\n")
    error_message = "User data is a script, and lets nobody in as root."
  }
  assert {
    condition     = length(regexall("(?m)^\\s*#", output.user_data)) == 2 && strcontains(output.user_data, "\nnpcnix_root_keys() (\n")
    error_message = "Two lines of comment stand at its head: an edit of any other would change it."
  }
  assert {
    condition = alltrue([for line in [
      "remote_url='s3://acme/npcnix/remotes/dev.npcnix'",
      "remote_region='eu-central-1'",
      "queue_url='https://sqs.eu-central-1.amazonaws.com/123456789012/npcnix-dev-web1-prod'",
      "configuration='web1.prod'",
      "host='web1.prod'",
      "pre_install_script=''",
      "post_install_script=''",
      "npcnix_boot",
    ] : contains(split("\n", output.user_data), line)])
    error_message = "The script has remote, region, queue, configuration and host name."
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.npcnix[0].policy).Statement == [
      {
        Sid      = "FetchRemote"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = "arn:aws:s3:::acme/npcnix/remotes/dev.npcnix"
      },
      {
        Sid      = "WriteOwnRecord"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [for folder in ["", "failed/", "recovered/"] : "arn:aws:s3:::acme/npcnix/remotes/dev.npcnix.acks/${folder}web1.prod.json"]
      },
      {
        Sid      = "ReceiveFromOwnQueue"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"]
        Resource = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-web1-prod"
      },
    ]
    error_message = "The role may do more or less than the host needs."
  }
  assert {
    condition     = aws_iam_role_policy.npcnix[0].role == aws_iam_role.host[0].name && aws_iam_instance_profile.host[0].role == aws_iam_role.host[0].name && aws_instance.host[0].iam_instance_profile == aws_iam_instance_profile.host[0].name
    error_message = "The instance does not have the role with the policy."
  }
  assert {
    condition     = aws_instance.host[0].vpc_security_group_ids == toset([aws_security_group.host[0].id, "sg-monitoring"])
    error_message = "The instance is not in its own and the given security groups."
  }
  assert {
    condition     = output.host_queue.policy_arn == null
    error_message = "The host has a managed policy besides the inline one."
  }
}

run "lease_and_alarms_arrive_at_the_queue" {
  command = plan

  variables {
    lease_secs        = 300
    max_receive_count = 20
    alarms            = { actions = ["arn:aws:sns:eu-central-1:123456789012:pager"] }
  }

  assert {
    condition     = module.host_queue[0].lease_secs == 300
    error_message = "The queue has another lease than the one given."
  }
  assert {
    condition     = module.host_queue[0].max_receive_count == 20
    error_message = "The queue has another count of receives than the one given."
  }
  assert {
    condition     = toset(module.host_queue[0].alarm_names) == toset([for end in ["dead-letters", "oldest-message"] : "${module.host_queue[0].queue_name}-${end}"])
    error_message = "The queue has no alarms."
  }
}
