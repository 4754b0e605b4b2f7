provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

variables {
  bucket  = { id = "my.fleet", arn = "arn:aws:s3:::my.fleet", region = "eu-central-1" }
  prefix  = "npcnix/remotes"
  remotes = ["dev", "prod"]
}

run "more_remotes_than_s3_notifies_of" {
  module {
    source = "./tests/many_remotes"
  }
}

run "an_empty_prefix_and_more_remotes_than_s3_notifies_of_are_refused" {
  command = plan
  variables {
    prefix  = ""
    remotes = run.more_remotes_than_s3_notifies_of.names
  }
  override_data {
    target = data.aws_caller_identity.current
    values = { account_id = "123456789012" }
  }
  expect_failures = [var.prefix, var.remotes]
}
