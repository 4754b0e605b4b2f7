provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
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

# OpenTofu looks for what is overridden in every module that a file runs.

run "long_scripts" {
  module {
    source = "../instance/tests/long_scripts"
  }
}

run "scripts_that_ec2_does_not_accept_are_refused" {
  command = plan

  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }

  variables {
    pre_install_script = run.long_scripts.too_long
  }
  expect_failures = [aws_launch_template.group]
}
