locals {
  configuration = var.configuration == null ? var.hostname : var.configuration
  queue         = var.create && (var.queue == null ? var.remote.events : var.queue)
  ipv6          = var.subnet.assign_ipv6_address_on_creation
  short_name    = substr("npcnix-${var.hostname}", 0, 37)
  tags          = merge({ Name = var.hostname }, var.tags)

  create_profile = var.create && var.create_iam_instance_profile
  create_role    = local.create_profile && var.create_iam_role
  role_name      = local.create_role ? one(aws_iam_role.host[*].name) : var.iam_role_name
  host_policy    = local.queue ? one(module.host_queue[*].policy_json) : one(module.host_policy[*].policy_json)
}

# Each host has a role of its own, so that what it may do is for this host alone.

module "host_queue" {
  source = "../host_queue"
  count  = local.queue ? 1 : 0

  remote            = var.remote
  host              = var.hostname
  subscribe         = var.subscribe
  kms_key_arn       = var.queue_kms_key_arn
  lease_secs        = var.lease_secs
  max_receive_count = var.max_receive_count
  alarms            = var.alarms
  create_policy     = false
  tags              = var.tags
}

module "host_policy" {
  source = "../host_policy"
  count  = var.create && !local.queue ? 1 : 0

  create = false
  remote = var.remote
  host   = var.hostname
  tags   = var.tags
}

resource "aws_iam_role" "host" {
  count = local.create_role ? 1 : 0

  name                 = var.iam_role_name
  name_prefix          = var.iam_role_name == null ? "${local.short_name}-" : null
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

resource "aws_iam_instance_profile" "host" {
  count = local.create_profile ? 1 : 0

  name_prefix = "${local.short_name}-"
  path        = var.iam_role_path
  role        = local.role_name
  tags        = local.tags
}

# Inline: an account may have 1,500 managed policies, and this one is for a single role. Its name is unique, because
# hosts may share a role that was given.
resource "aws_iam_role_policy" "npcnix" {
  count = local.create_profile ? 1 : 0

  name   = local.queue ? module.host_queue[0].policy_name : module.host_policy[0].policy_name
  role   = local.role_name
  policy = local.host_policy
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each = local.create_profile ? var.iam_policies : {}

  role       = local.role_name
  policy_arn = each.value.arn
}

resource "aws_instance" "host" {
  count = var.create ? 1 : 0

  ami                         = var.ami
  instance_type               = var.instance_type
  subnet_id                   = var.subnet.id
  vpc_security_group_ids      = concat(aws_security_group.host[*].id, var.vpc_security_group_ids)
  iam_instance_profile        = local.create_profile ? one(aws_iam_instance_profile.host[*].name) : var.iam_instance_profile
  user_data                   = local.user_data
  user_data_replace_on_change = var.user_data_replace_on_change
  tags                        = local.tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = var.metadata_hop_limit
  }

  root_block_device {
    encrypted             = true
    kms_key_id            = var.root_block_device.kms_key_id
    volume_type           = var.root_block_device.type
    volume_size           = var.root_volume_size
    iops                  = var.root_block_device.iops
    throughput            = var.root_block_device.throughput
    delete_on_termination = var.root_block_device.delete_on_termination
    tags                  = local.tags
  }

  lifecycle {
    # Image and subnet count for the first boot. A running host must not be replaced because a data source found
    # another one.
    ignore_changes = [ami, subnet_id]

    precondition {
      condition     = local.long_bytes <= local.limit
      error_message = "The scripts and root keys of ${var.hostname} have ${ceil(local.long_bytes)} bytes, but EC2 accepts ${local.limit} besides npcnix's settings. Move long text into the NixOS configuration, or let pre_install_script fetch it."
    }
  }

  # The host needs its permissions from its first boot on.
  depends_on = [aws_iam_role_policy.npcnix, aws_iam_role_policy_attachment.more]
}
