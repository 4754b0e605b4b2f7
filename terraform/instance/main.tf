locals {
  configuration = var.configuration == null ? var.hostname : var.configuration
  queue         = var.queue == null ? var.remote.events : var.queue
  ipv6          = var.subnet.assign_ipv6_address_on_creation
  short_name    = substr("npcnix-${var.hostname}", 0, 37)
  tags          = merge({ Name = var.hostname }, var.tags)
}

# One role a host: what it may do is for this host alone.

module "host_queue" {
  source = "../host_queue"
  count  = local.queue ? 1 : 0

  remote            = var.remote
  host              = var.hostname
  lease_secs        = var.lease_secs
  max_receive_count = var.max_receive_count
  alarms            = var.alarms
  tags              = var.tags
}

module "host_policy" {
  source = "../host_policy"
  count  = local.queue ? 0 : 1

  remote = var.remote
  host   = var.hostname
  tags   = var.tags
}

resource "aws_iam_role" "host" {
  name_prefix = "${local.short_name}-"
  tags        = local.tags

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
  name_prefix = "${local.short_name}-"
  role        = aws_iam_role.host.name
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "npcnix" {
  role       = aws_iam_role.host.name
  policy_arn = local.queue ? module.host_queue[0].policy_arn : module.host_policy[0].policy_arn
}

resource "aws_iam_role_policy_attachment" "more" {
  for_each = var.iam_policies

  role       = aws_iam_role.host.name
  policy_arn = each.value.arn
}

resource "aws_instance" "host" {
  ami                         = var.ami
  instance_type               = var.instance_type
  subnet_id                   = var.subnet.id
  vpc_security_group_ids      = [aws_security_group.host.id]
  iam_instance_profile        = aws_iam_instance_profile.host.name
  user_data                   = local.user_data
  user_data_replace_on_change = var.user_data_replace_on_change
  tags                        = local.tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = var.metadata_hop_limit
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = var.root_volume_size
  }

  lifecycle {
    # Image and subnet are for the first boot. Another one, such as a data source may find, must not cost a
    # host that runs.
    ignore_changes = [ami, subnet_id]

    precondition {
      condition     = local.long_bytes <= local.limit
      error_message = "The scripts and root keys of ${var.hostname} come to ${ceil(local.long_bytes)} bytes, and EC2 takes ${local.limit} beside npcnix's settings. Put what is long into the NixOS configuration, or let pre_install_script fetch it."
    }
  }

  # From its first boot on the host needs what the role allows.
  depends_on = [aws_iam_role_policy_attachment.npcnix, aws_iam_role_policy_attachment.more]
}
