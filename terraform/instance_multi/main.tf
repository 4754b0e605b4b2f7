module "instance" {
  source   = "../instance"
  for_each = var.create ? var.hosts : {}

  remote            = var.remote
  hostname          = "${each.key}.${var.hostname_base}"
  configuration     = var.configuration == null ? "${each.key}-${var.hostname_base}" : var.configuration
  queue             = var.queue
  subscribe         = var.subscribe
  queue_kms_key_arn = var.queue_kms_key_arn
  lease_secs        = var.lease_secs
  max_receive_count = var.max_receive_count
  alarms            = var.alarms

  install                     = var.install
  pre_install_script          = var.pre_install_script
  post_install_script         = var.post_install_script
  root_access                 = var.root_access
  root_ssh_keys               = var.root_ssh_keys
  user_data_replace_on_change = var.user_data_replace_on_change

  iam_policies                  = var.iam_policies
  create_iam_instance_profile   = var.create_iam_instance_profile
  iam_instance_profile          = var.iam_instance_profile
  create_iam_role               = var.create_iam_role
  iam_role_name                 = var.iam_role_name
  iam_role_path                 = var.iam_role_path
  iam_role_permissions_boundary = var.iam_role_permissions_boundary

  ami                = var.ami
  instance_type      = var.instance_type
  root_volume_size   = var.root_volume_size
  root_block_device  = var.root_block_device
  metadata_hop_limit = var.metadata_hop_limit
  tags               = var.tags

  subnet                 = merge(each.value.subnet, { vpc_id = var.vpc.id, vpc = var.vpc })
  eip                    = var.eip
  dns_zone               = var.dns_zone
  vpc_security_group_ids = var.vpc_security_group_ids
  public_tcp_ports       = var.public_tcp_ports
  internal_tcp_ports     = var.internal_tcp_ports
}
