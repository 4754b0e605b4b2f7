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
    name     = "dev"
    filename = "dev.npcnix"
    bucket   = { id = "acme", arn = "arn:aws:s3:::acme" }
    key      = "npcnix/remotes/dev.npcnix"
    url      = "s3://acme/npcnix/remotes/dev.npcnix"
    region   = "eu-central-1"
    events   = false
  }
  hosts = {
    web1 = { subnet = { id = "subnet-1", assign_ipv6_address_on_creation = true } }
    web2 = { subnet = { id = "subnet-2" } }
  }
  hostname_base = "prod"
  vpc           = { id = "vpc-1", cidr_block = "10.0.0.0/16", ipv6_cidr_block = "2001:db8::/56" }
  dns_zone      = { zone_id = "Z1", name = "example.org" }
  ami           = "ami-0123456789abcdef0"
  install       = { install_script = "npcnix_boot" }
}

run "each_host_is_its_own" {
  command = plan

  assert {
    condition     = toset(keys(output.instance)) == toset(["web1", "web2"]) && output.instance["web2"].subnet_id == "subnet-2"
    error_message = "There is an instance for each host, in its subnet."
  }
  assert {
    condition     = output.role["web1"].name_prefix == "npcnix-web1.prod-" && output.role["web2"].name_prefix == "npcnix-web2.prod-"
    error_message = "Each host has a role of its own."
  }
  assert {
    condition     = strcontains(output.policy_json["web1"], "dev.npcnix.acks/web1.prod.json") && !strcontains(output.policy_json["web1"], "web2")
    error_message = "A host may write its own record alone."
  }
  assert {
    condition     = strcontains(output.user_data["web1"], "\nconfiguration='web1-prod'\n") && strcontains(output.user_data["web1"], "\nhost='web1.prod'\n") && strcontains(output.user_data["web2"], "\nconfiguration='web2-prod'\n")
    error_message = "Each host runs its own configuration under its own name."
  }
  assert {
    condition     = output.private_dns_names["web1"] == tolist(["private.web1.prod.example.org"])
    error_message = "The names are private.<name>.<base>.<zone>."
  }
  assert {
    condition     = output.eip["web1"] == null && output.host_queue["web1"] == null
    error_message = "No address unless asked for, no queue without events."
  }
  assert {
    condition     = output.security_group["web1"].vpc_id == "vpc-1" && one(output.security_group["web1"].ingress).cidr_blocks == tolist(["10.0.0.0/16"])
    error_message = "Port 22 is open to the VPC."
  }
}

run "what_is_given_holds_for_all" {
  command = plan

  variables {
    configuration               = "web"
    eip                         = true
    dns_zone                    = null
    public_tcp_ports            = [443]
    internal_tcp_ports          = []
    root_volume_size            = 20
    metadata_hop_limit          = 2
    user_data_replace_on_change = true
    instance_type               = "t4g.small"
    root_access                 = true
    root_ssh_keys               = ["ssh-ed25519 AAAA"]
    pre_install_script          = "before"
    post_install_script         = "after"
    tags                        = { team = "web" }

    root_block_device             = { kms_key_id = "arn:aws:kms:eu-central-1:123456789012:key/disk" }
    vpc_security_group_ids        = ["sg-monitoring"]
    iam_policies                  = { logs = { arn = "arn:aws:iam::123456789012:policy/logs" } }
    iam_role_path                 = "/npcnix/"
    iam_role_permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = alltrue([for i in values(output.instance) : i.root_block_device[0].volume_size == 20 && i.metadata_options[0].http_put_response_hop_limit == 2 && i.metadata_options[0].http_tokens == "required" && i.user_data_replace_on_change && i.instance_type == "t4g.small" && i.tags["team"] == "web"])
    error_message = "All instances are as asked for."
  }
  assert {
    condition     = alltrue([for u in values(output.user_data) : alltrue([for text in ["configuration='web'", "AAAA", "pre_install_script='before'", "post_install_script='after'"] : strcontains(u, text)])])
    error_message = "All hosts have the configuration, the keys and the scripts."
  }
  assert {
    condition     = alltrue([for i in values(output.instance) : i.root_block_device[0].kms_key_id == "arn:aws:kms:eu-central-1:123456789012:key/disk" && i.root_block_device[0].tags["team"] == "web"])
    error_message = "The root volumes are not encrypted with the given key, or lack the tags."
  }
  assert {
    condition     = alltrue([for r in values(output.role) : r.path == "/npcnix/" && r.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"])
    error_message = "The roles are elsewhere, or lack the permissions boundary."
  }
  assert {
    condition     = alltrue([for e in values(output.eip) : e.domain == "vpc"]) && alltrue([for n in values(output.private_dns_names) : length(n) == 0])
    error_message = "All have an address, and none a name."
  }
  assert {
    condition     = alltrue([for g in values(output.security_group) : one(g.ingress).from_port == 443])
    error_message = "Only port 443 is open."
  }
}

run "a_base_that_makes_no_host_name_is_refused" {
  command = plan

  variables {
    hostname_base = "prod_"
  }

  expect_failures = [var.hostname_base]
}

run "one_profile_or_one_role_can_serve_all" {
  command = plan

  variables {
    create_iam_instance_profile = false
    iam_instance_profile        = "shared"
  }

  assert {
    condition     = alltrue([for i in values(output.instance) : i.iam_instance_profile == "shared"]) && alltrue([for r in values(output.role) : r == null])
    error_message = "The hosts do not share the given profile."
  }
}

run "a_name_for_the_roles_of_all_is_refused" {
  command = plan

  variables {
    iam_role_name = "shared"
  }

  expect_failures = [var.iam_role_name]
}

run "no_hosts_if_not_asked_for" {
  command = plan

  variables {
    create = false
  }

  assert {
    condition     = length(output.instance) == 0
    error_message = "There are hosts."
  }
}
