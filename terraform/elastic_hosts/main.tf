# Hosts that come and go: a role, an instance profile and a launch template for a group of instances. Each member
# makes its own queue when it starts, and deletes it when it is powered off.

data "aws_caller_identity" "current" {}

locals {
  partition = split(":", var.remote.bucket.arn)[1]
  # As the agent names its queue, in the topic's region: npcnix-REMOTE-HOST-HASH, and -dead after it.
  queues = "arn:${local.partition}:sqs:${split(":", var.remote.topic_arn)[3]}:${data.aws_caller_identity.current.account_id}:npcnix-${substr(replace(var.remote.name, ".", "-"), 0, 30)}-${var.name}-i-*"

  # By the tag that the agent gives its queue, whether the instance that asks is the queue's own.
  own     = { ArnLike = { "ec2:SourceInstanceARN" = "arn:${local.partition}:ec2:*:*:instance/$${aws:ResourceTag/npcnix:instance}" } }
  own_new = { ArnLike = { "ec2:SourceInstanceARN" = "arn:${local.partition}:ec2:*:*:instance/$${aws:RequestTag/npcnix:instance}" } }

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "FetchRemote"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = "${var.remote.bucket.arn}/${var.remote.key}"
        },
        {
          Sid      = "WriteRecordsOfGroup"
          Effect   = "Allow"
          Action   = ["s3:PutObject"]
          Resource = [for folder in ["", "failed/", "recovered/"] : "${var.remote.bucket.arn}/${var.remote.key}.acks/${folder}${var.name}-i-*.json"]
        },
        {
          Sid      = "FindQueuesOfGroup"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ListQueueTags"]
          Resource = local.queues
        },
        {
          Sid       = "MakeOwnQueue"
          Effect    = "Allow"
          Action    = ["sqs:CreateQueue"]
          Resource  = local.queues
          Condition = local.own_new
        },
        {
          # Tags are given with CreateQueue only: one that changed another queue's would make that its own.
          Sid       = "TagNewQueue"
          Effect    = "Allow"
          Action    = ["sqs:TagQueue"]
          Resource  = local.queues
          Condition = merge(local.own_new, { Null = { "aws:ResourceTag/npcnix:instance" = "true" } })
        },
        {
          Sid       = "UseOwnQueue"
          Effect    = "Allow"
          Action    = ["sqs:SetQueueAttributes", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteQueue"]
          Resource  = local.queues
          Condition = local.own
        },
        {
          Sid      = "SubscribeQueuesOfGroup"
          Effect   = "Allow"
          Action   = ["sns:Subscribe"]
          Resource = var.remote.topic_arn
          Condition = {
            StringEquals = { "sns:Protocol" = "sqs" }
            StringLike   = { "sns:Endpoint" = local.queues }
          }
        },
        {
          Sid      = "ListSubscriptions"
          Effect   = "Allow"
          Action   = ["sns:ListSubscriptionsByTopic"]
          Resource = var.remote.topic_arn
        },
        {
          # AWS knows no resource for these two.
          Sid      = "ChangeSubscriptions"
          Effect   = "Allow"
          Action   = ["sns:SetSubscriptionAttributes", "sns:Unsubscribe"]
          Resource = "*"
        },
      ],
      var.remote.kms_key_arn == null ? [] : [{
        Sid      = "UseStoreKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = var.remote.kms_key_arn
      }],
    )
  })

  tags = merge({ "npcnix:remote" = var.remote.url }, var.tags)
}

resource "aws_iam_role" "group" {
  name_prefix          = "npcnix-${var.name}-"
  path                 = var.iam_role_path
  permissions_boundary = var.iam_role_permissions_boundary
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "npcnix" {
  name   = "npcnix"
  role   = aws_iam_role.group.name
  policy = local.policy

  lifecycle {
    precondition {
      condition     = split(":", var.remote.topic_arn)[4] == data.aws_caller_identity.current.account_id || var.remote.accounts == null || contains(coalesce(var.remote.accounts, []), data.aws_caller_identity.current.account_id)
      error_message = "The topic of remote \"${var.remote.name}\" belongs to the account ${split(":", var.remote.topic_arn)[4]}, but the provider works in ${data.aws_caller_identity.current.account_id}, which its store does not admit. In module store_s3 of ${split(":", var.remote.topic_arn)[4]}, set accounts = { \"${var.remote.name}\" = [\"${data.aws_caller_identity.current.account_id}\"] }. Here, nothing else is needed."
    }
  }
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each = var.iam_policies

  role       = aws_iam_role.group.name
  policy_arn = each.value.arn
}

resource "aws_iam_instance_profile" "group" {
  name_prefix = "npcnix-${var.name}-"
  path        = var.iam_role_path
  role        = aws_iam_role.group.name
  tags        = local.tags
}

locals {
  # Values are single-quoted for the shell; only the quote itself is special there.
  quote = "'\\''"

  # Without comment lines, so that an edited comment does not make a new version of the template.
  scripts = { for name in ["../instance/root-keys.sh", "member.sh"] : name => replace(file("${path.module}/${name}"), "/(?m)^[ \\t]*#.*\\n/", "") }

  settings = { for name, value in {
    npcnix_root_ssh_keys = join("", [for k in var.root_ssh_keys : "${trimspace(k)}\n"])
    npcnix_group         = var.name
    remote_url           = var.remote.url
    remote_region        = var.remote.region
    topic_arn            = var.remote.topic_arn
    queue_url            = "auto"
    configuration        = coalesce(var.configuration, var.name)
    pre_install_script   = var.pre_install_script
    post_install_script  = var.post_install_script
  } : name => "${name}='${replace(value, "'", local.quote)}'" }

  user_data = "${join("\n", concat(
    ["#!/usr/bin/env bash", "# shellcheck disable=SC2016,SC2034 # keys and scripts stand in single quotes"],
    values(local.settings),
    [local.scripts["../instance/root-keys.sh"], local.scripts["member.sh"], var.install.install_script],
  ))}\n"

  # In bytes, which length() does not count; remote and topic, which may be unknown, need at most 1500.
  long_bytes = length(base64encode(join("\n", concat(values(local.scripts), [var.install.install_script, var.pre_install_script, var.post_install_script], var.root_ssh_keys)))) * 3 / 4
  limit      = 16384 - 1500
}

resource "aws_launch_template" "group" {
  name_prefix            = "npcnix-${var.name}-"
  description            = "npcnix hosts ${var.name} of ${var.remote.url}"
  update_default_version = true
  image_id               = var.ami
  instance_type          = var.instance_type
  vpc_security_group_ids = var.vpc_security_group_ids
  user_data              = base64encode(local.user_data)
  tags                   = local.tags

  # So that a power-off from within ends the instance as its group would.
  instance_initiated_shutdown_behavior = "terminate"

  iam_instance_profile {
    arn = aws_iam_instance_profile.group.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = var.metadata_hop_limit
  }

  block_device_mappings {
    device_name = var.root_device_name
    ebs {
      encrypted             = "true"
      volume_type           = "gp3"
      volume_size           = var.root_volume_size
      delete_on_termination = "true"
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = merge({ Name = var.name }, var.tags)
    }
  }

  lifecycle {
    precondition {
      condition     = local.long_bytes <= local.limit
      error_message = "The scripts and root keys of ${var.name} have ${ceil(local.long_bytes)} bytes, but EC2 accepts ${local.limit} besides npcnix's settings. Move long text into the NixOS configuration, or let pre_install_script fetch it."
    }
  }

  # A member needs its permissions from its first boot on.
  depends_on = [aws_iam_role_policy.npcnix, aws_iam_role_policy_attachment.more]
}
