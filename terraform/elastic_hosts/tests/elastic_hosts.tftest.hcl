provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

variables {
  remote = {
    name      = "dev.eu"
    filename  = "dev.eu.npcnix"
    bucket    = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
    key       = "npcnix/remotes/dev.eu.npcnix"
    url       = "s3://my-fleet/npcnix/remotes/dev.eu.npcnix"
    region    = "eu-central-1"
    events    = true
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:npcnix-dev"
  }
  name                   = "web"
  ami                    = "ami-1"
  install                = { install_script = "npcnix_boot" }
  vpc_security_group_ids = ["sg-1"]
}

run "a_member_uses_its_own_queue_and_writes_records_of_its_group" {
  command = plan

  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.npcnix.policy).Statement : s.Sid => s.Resource } == {
      FetchRemote            = "arn:aws:s3:::my-fleet/npcnix/remotes/dev.eu.npcnix"
      WriteRecordsOfGroup    = [for folder in ["", "failed/", "recovered/"] : "arn:aws:s3:::my-fleet/npcnix/remotes/dev.eu.npcnix.acks/${folder}web-i-*.json"]
      FindQueuesOfGroup      = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-eu-web-i-*"
      MakeOwnQueue           = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-eu-web-i-*"
      TagNewQueue            = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-eu-web-i-*"
      UseOwnQueue            = "arn:aws:sqs:eu-central-1:123456789012:npcnix-dev-eu-web-i-*"
      SubscribeQueuesOfGroup = "arn:aws:sns:eu-central-1:123456789012:npcnix-dev"
      ListSubscriptions      = "arn:aws:sns:eu-central-1:123456789012:npcnix-dev"
      ChangeSubscriptions    = "*"
    }
    error_message = "The role may do something elsewhere."
  }
  assert {
    condition     = alltrue([for line in ["npcnix_group='web'", "remote_url='s3://my-fleet/npcnix/remotes/dev.eu.npcnix'", "topic_arn='arn:aws:sns:eu-central-1:123456789012:npcnix-dev'", "queue_url='auto'", "configuration='web'", "npcnix_boot"] : contains(split("\n", output.user_data), line)])
    error_message = "The script has group, remote, topic and configuration, and a queue of auto."
  }
  assert {
    condition     = length(regexall("(?m)^\\s*#", output.user_data)) == 2 && base64decode(aws_launch_template.group.user_data) == output.user_data
    error_message = "Two lines of comment stand at the head of user data: an edit of any other would change it."
  }
  assert {
    condition     = aws_launch_template.group.metadata_options[0].http_tokens == "required" && aws_launch_template.group.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "IMDSv2 is not required, or the root volume not encrypted."
  }
}

run "a_key_may_be_used" {
  command = plan
  variables {
    remote = {
      name        = "dev"
      filename    = "dev.npcnix"
      bucket      = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key         = "npcnix/remotes/dev.npcnix"
      url         = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region      = "eu-central-1"
      events      = true
      topic_arn   = "arn:aws:sns:eu-central-1:123456789012:npcnix-dev"
      kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1"
    }
  }

  assert {
    condition     = [for s in jsondecode(output.policy_json).Statement : s.Resource if s.Sid == "UseStoreKey"] == ["arn:aws:kms:eu-central-1:123456789012:key/1"]
    error_message = "The members cannot use the key."
  }
}

run "what_is_mistyped_is_refused" {
  command = plan
  variables {
    name               = "web-i-1"
    configuration      = "a\"b"
    root_ssh_keys      = [" "]
    metadata_hop_limit = 0
    remote = {
      name     = "dev"
      filename = "dev.npcnix"
      bucket   = { id = "my-fleet", arn = "arn:aws:s3:::my-fleet" }
      key      = "npcnix/remotes/dev.npcnix"
      url      = "s3://my-fleet/npcnix/remotes/dev.npcnix"
      region   = "eu-central-1"
      events   = false
    }
  }
  expect_failures = [var.name, var.configuration, var.root_ssh_keys, var.metadata_hop_limit, var.remote]
}
