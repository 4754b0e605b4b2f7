provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  skip_region_validation      = true
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
  hostname = "web1.prod"
  ami      = "ami-0123456789abcdef0"
  install  = { install_script = "npcnix_boot" }
  subnet = {
    id                              = "subnet-1"
    vpc_id                          = "vpc-1"
    assign_ipv6_address_on_creation = true
    vpc                             = { cidr_block = "10.0.0.0/16", ipv6_cidr_block = "2001:db8::/56" }
  }
}

run "a_host_with_defaults" {
  command = plan

  variables {
    queue = false
  }

  assert {
    condition     = length(aws_iam_role_policy.npcnix) == 1 && length(aws_iam_role_policy_attachment.more) == 0
    error_message = "The role has more than the policy of npcnix, or not that."
  }
  assert {
    condition     = aws_iam_role.host[0].name_prefix == "npcnix-web1.prod-"
    error_message = "The role is this host's own."
  }
  assert {
    condition     = jsondecode(aws_iam_role.host[0].assume_role_policy).Statement[0].Principal.Service == "ec2.amazonaws.com" && length(jsondecode(aws_iam_role.host[0].assume_role_policy).Statement) == 1
    error_message = "Only EC2 takes the role."
  }
  assert {
    condition     = aws_instance.host[0].metadata_options[0].http_tokens == "required" && aws_instance.host[0].metadata_options[0].http_endpoint == "enabled"
    error_message = "IMDSv2 is required."
  }
  assert {
    condition     = aws_instance.host[0].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Containers do not get the host's credentials."
  }
  assert {
    condition     = aws_instance.host[0].root_block_device[0].encrypted && aws_instance.host[0].root_block_device[0].volume_type == "gp3" && aws_instance.host[0].root_block_device[0].volume_size == 8
    error_message = "The root volume is an encrypted gp3 of 8 GiB."
  }
  assert {
    condition     = !aws_instance.host[0].user_data_replace_on_change
    error_message = "A change of scripts does not replace the instance unless told to."
  }
  assert {
    condition     = aws_instance.host[0].tags["Name"] == "web1.prod"
    error_message = "The instance bears the host's name."
  }
  assert {
    condition     = length(aws_eip.host) == 0 && length(aws_route53_record.private_a) == 0 && length(aws_route53_record.private_aaaa) == 0 && length(output.private_dns_names) == 0
    error_message = "Address and names are made only if asked for."
  }
  assert {
    condition = [for i in aws_security_group.host[0].ingress : [i.from_port, i.to_port, i.protocol, i.cidr_blocks, i.ipv6_cidr_blocks]] == [
      [22, 22, "tcp", tolist(["10.0.0.0/16"]), tolist(["2001:db8::/56"])],
    ]
    error_message = "Port 22 is open to the VPC, and nothing else to anybody."
  }
  assert {
    condition = [for e in aws_security_group.host[0].egress : [e.protocol, e.cidr_blocks, e.ipv6_cidr_blocks]] == [
      ["-1", tolist(["0.0.0.0/0"]), tolist(["::/0"])],
    ]
    error_message = "The host may connect to everywhere."
  }
}

run "a_host_that_is_told_to_poll" {
  command = plan

  variables {
    queue         = false
    configuration = "web"
    eip           = true
    dns_zone      = { zone_id = "Z1", name = "example.org." }
    subnet        = { id = "subnet-1", vpc_id = "vpc-1", vpc = { cidr_block = "10.0.0.0/16", ipv6_cidr_block = "" } }
    iam_policies  = { logs = { arn = "arn:aws:iam::123456789012:policy/logs" } }

    public_tcp_ports            = [443, 80]
    root_access                 = true
    root_ssh_keys               = ["ssh-ed25519 AAAA o'brien@example.org", "ssh-ed25519 BBBB\n"]
    pre_install_script          = "echo 'before'\n"
    post_install_script         = "echo \"$HOME\" ''"
    user_data_replace_on_change = true
    metadata_hop_limit          = 2
    root_volume_size            = 20
    root_block_device           = { kms_key_id = "arn:aws:kms:eu-central-1:123456789012:key/disk", iops = 6000, throughput = 500, delete_on_termination = false }
    tags                        = { team = "web" }

    vpc_security_group_ids        = ["sg-monitoring"]
    iam_role_path                 = "/npcnix/"
    iam_role_permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = length(module.host_queue) == 0 && length(module.host_policy) == 1 && output.host_queue == null
    error_message = "queue = false leaves the queue away."
  }
  assert {
    condition     = !strcontains(output.policy_json, "sqs:") && strcontains(output.policy_json, "s3:GetObject")
    error_message = "The host may read its remote, and no queue."
  }
  assert {
    condition     = aws_iam_role_policy_attachment.more["logs"].policy_arn == "arn:aws:iam::123456789012:policy/logs"
    error_message = "Further policies are attached."
  }
  assert {
    condition     = length(aws_eip.host) == 1 && aws_eip.host[0].domain == "vpc" && length(aws_eip_association.host) == 1
    error_message = "There is an Elastic IP."
  }
  assert {
    condition     = aws_route53_record.private_a[0].name == "private.web1.prod.example.org" && aws_route53_record.private_a[0].type == "A" && output.private_dns_names == tolist(["private.web1.prod.example.org"])
    error_message = "The private address has a name."
  }
  assert {
    condition     = length(aws_route53_record.private_aaaa) == 0
    error_message = "A subnet without IPv6 gives no AAAA record."
  }
  assert {
    condition     = toset([for i in aws_security_group.host[0].ingress : "${i.from_port} ${join(",", i.cidr_blocks)} ${join(",", i.ipv6_cidr_blocks)}"]) == toset(["22 10.0.0.0/16 ", "80 0.0.0.0/0 ::/0", "443 0.0.0.0/0 ::/0"])
    error_message = "Public ports are open to everybody, internal ones to the VPC, which has no IPv6 here."
  }
  assert {
    condition     = startswith(output.user_data, "#!/usr/bin/env bash\n# shellcheck disable=SC2016 # keys and scripts stand in single quotes\nnpcnix_root_ssh_keys='ssh-ed25519 AAAA o'\\''brien@example.org\nssh-ed25519 BBBB\n'\n")
    error_message = "Root's keys are there, quoted for the shell."
  }
  assert {
    condition     = strcontains(output.user_data, "\nqueue_url=''\n") && strcontains(output.user_data, "\nconfiguration='web'\n") && strcontains(output.user_data, "\nhost='web1.prod'\n")
    error_message = "There is no queue, and the configuration is the one given."
  }
  assert {
    condition     = strcontains(output.user_data, "\npre_install_script='echo '\\''before'\\''\n'\npost_install_script='echo \"$HOME\" '\\'''\\'''\nnpcnix_boot\n")
    error_message = "Scripts are quoted for the shell, and stand before the installation, which runs them."
  }
  assert {
    condition     = aws_instance.host[0].user_data_replace_on_change && aws_instance.host[0].metadata_options[0].http_put_response_hop_limit == 2 && aws_instance.host[0].root_block_device[0].volume_size == 20
    error_message = "The instance is as asked for."
  }
  assert {
    condition     = aws_instance.host[0].root_block_device[0].kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/disk" && aws_instance.host[0].root_block_device[0].iops == 6000 && aws_instance.host[0].root_block_device[0].throughput == 500 && !aws_instance.host[0].root_block_device[0].delete_on_termination
    error_message = "The root volume is not as given."
  }
  assert {
    condition     = aws_iam_role.host[0].path == "/npcnix/" && aws_iam_instance_profile.host[0].path == "/npcnix/" && aws_iam_role.host[0].permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "Role and profile are elsewhere, or the role lacks its permissions boundary."
  }
  assert {
    condition     = aws_instance.host[0].root_block_device[0].tags == tomap({ Name = "web1.prod", team = "web" })
    error_message = "The root volume does not have the tags."
  }
  assert {
    condition     = aws_instance.host[0].tags["team"] == "web" && aws_iam_role.host[0].tags["team"] == "web" && aws_security_group.host[0].tags["team"] == "web" && aws_eip.host[0].tags["team"] == "web"
    error_message = "All bear the tags."
  }
}

run "ipv6_gives_an_aaaa_record" {
  command = plan

  variables {
    dns_zone = { zone_id = "Z1", name = "example.org" }
    queue    = false
  }

  assert {
    condition     = aws_route53_record.private_aaaa[0].type == "AAAA" && aws_route53_record.private_aaaa[0].name == "private.web1.prod.example.org"
    error_message = "A subnet that hands out IPv6 addresses gives an AAAA record."
  }
}

run "without_install_there_are_only_keys" {
  command = plan

  variables {
    install = null
    queue   = false
  }

  assert {
    condition     = !strcontains(output.user_data, "remote_url") && strcontains(output.user_data, "authorized_keys")
    error_message = "Without the module install nothing is installed."
  }
}

run "keys_without_root_access_let_nobody_in" {
  command = plan

  variables {
    root_ssh_keys = ["ssh-ed25519 AAAA"]
    queue         = false
  }

  assert {
    condition     = !strcontains(output.user_data, "AAAA")
    error_message = "root_ssh_keys count only with root_access."
  }
}

run "a_polling_remote_gives_no_queue" {
  command = plan

  variables {
    remote = {
      name     = "dev"
      filename = "dev.npcnix"
      bucket   = { id = "acme", arn = "arn:aws:s3:::acme" }
      key      = "npcnix/remotes/dev.npcnix"
      url      = "s3://acme/npcnix/remotes/dev.npcnix"
      region   = "eu-central-1"
      events   = false
    }
  }

  assert {
    condition     = length(module.host_queue) == 0 && length(module.host_policy) == 1
    error_message = "A remote without events gives the host no queue."
  }
}

run "a_queue_for_a_polling_remote_is_refused" {
  command = plan

  variables {
    queue = true
    remote = {
      name     = "dev"
      filename = "dev.npcnix"
      bucket   = { id = "acme", arn = "arn:aws:s3:::acme" }
      key      = "npcnix/remotes/dev.npcnix"
      url      = "s3://acme/npcnix/remotes/dev.npcnix"
      region   = "eu-central-1"
      events   = false
    }
  }

  expect_failures = [var.queue]
}

run "long_scripts" {
  module {
    source = "./tests/long_scripts"
  }
}

run "user_data_that_is_too_long_is_refused" {
  command = plan

  variables {
    queue              = false
    pre_install_script = run.long_scripts.too_long
  }

  expect_failures = [aws_instance.host]
}

run "user_data_may_be_nearly_that_long" {
  command = plan

  variables {
    queue              = false
    pre_install_script = run.long_scripts.nearly_too_long
  }

  assert {
    condition     = length(output.user_data) < 16384
    error_message = "14000 bytes of script fit."
  }
}

run "a_port_of_the_vpc_needs_the_vpc" {
  command = plan

  variables {
    queue  = false
    subnet = { id = "subnet-1", vpc_id = "vpc-1" }
  }

  expect_failures = [var.internal_tcp_ports]
}

run "bad_input_is_refused" {
  command = plan

  variables {
    queue              = false
    hostname           = "web 1"
    configuration      = "a\"b"
    root_ssh_keys      = ["one\ntwo"]
    public_tcp_ports   = [0]
    internal_tcp_ports = [65536]
    metadata_hop_limit = 0
  }

  expect_failures = [
    var.hostname,
    var.configuration,
    var.root_ssh_keys,
    var.public_tcp_ports,
    var.internal_tcp_ports,
    var.metadata_hop_limit,
  ]
}

run "a_profile_that_exists_is_used_and_its_role_is_left_alone" {
  command = plan

  variables {
    queue                       = false
    create_iam_instance_profile = false
    iam_instance_profile        = "shared"
  }

  assert {
    condition     = aws_instance.host[0].iam_instance_profile == "shared" && length(aws_iam_instance_profile.host) + length(aws_iam_role.host) + length(aws_iam_role_policy.npcnix) == 0
    error_message = "The host does not use the given profile, or IAM resources are created besides it."
  }
  assert {
    condition     = output.role == null && strcontains(output.policy_json, "s3:GetObject")
    error_message = "The policy to add to the profile's role is not output."
  }
}

run "a_role_that_exists_gets_a_profile_and_the_policy" {
  command = plan

  variables {
    queue           = false
    create_iam_role = false
    iam_role_name   = "shared"
    iam_policies    = { logs = { arn = "arn:aws:iam::123456789012:policy/logs" } }
  }

  assert {
    condition     = length(aws_iam_role.host) == 0 && aws_iam_instance_profile.host[0].role == "shared" && aws_iam_role_policy.npcnix[0].role == "shared" && aws_iam_role_policy_attachment.more["logs"].role == "shared"
    error_message = "Profile and policies are not those of the given role."
  }
  assert {
    condition     = aws_iam_role_policy.npcnix[0].name == "npcnix-dev@web1.prod-${substr(sha256("s3://acme/npcnix/remotes/dev.npcnix/web1.prod"), 0, 8)}"
    error_message = "Another host's policy on the same role could have the same name."
  }
}

run "a_role_has_the_given_name" {
  command = plan

  variables {
    queue         = false
    iam_role_name = "web1"
  }

  assert {
    condition     = aws_iam_role.host[0].name == "web1"
    error_message = "The role has another name."
  }
}

run "nothing_is_created_if_not_asked_for" {
  command = plan

  variables {
    create = false
    eip    = true
  }

  assert {
    condition     = length(aws_instance.host) + length(aws_security_group.host) + length(aws_iam_role.host) + length(aws_iam_instance_profile.host) + length(aws_iam_role_policy.npcnix) + length(aws_eip.host) + length(module.host_queue) + length(module.host_policy) == 0
    error_message = "Something is created."
  }
  assert {
    condition     = output.instance == null && output.role == null && output.security_group == null && output.host_queue == null && output.policy_json == null
    error_message = "The outputs are not null."
  }
}

run "contradictions_about_the_profile_are_refused" {
  command = plan

  variables {
    queue                       = false
    create_iam_instance_profile = false
    create_iam_role             = false
    root_block_device           = { kms_key_id = "alias/disk" }
  }

  expect_failures = [var.iam_instance_profile, var.iam_role_name, var.root_block_device]
}

run "policies_for_the_role_of_a_profile_that_exists_are_refused" {
  command = plan

  variables {
    queue                       = false
    create_iam_instance_profile = false
    iam_instance_profile        = "shared"
    iam_policies                = { logs = { arn = "arn:aws:iam::123456789012:policy/logs" } }
  }

  expect_failures = [var.iam_policies]
}
