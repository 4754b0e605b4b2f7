mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_service" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:queue" }
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

run "with_events_each_has_a_queue" {
  command = plan

  assert {
    condition     = output.host_queue["web1"].queue_name != output.host_queue["web2"].queue_name
    error_message = "No two hosts share a queue."
  }
}
