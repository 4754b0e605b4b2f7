provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = module.store.data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

run "a_bucket_made_in_the_same_apply_can_be_planned" {
  command = plan
  module {
    source = "./tests/new_bucket"
  }

  assert {
    condition     = output.names == toset(["dev", "prod"]) && output.keys == ["npcnix/remotes/dev.npcnix", "npcnix/remotes/prod.npcnix"]
    error_message = "The remotes are not known at plan."
  }
}

run "a_role_made_in_the_same_apply_can_follow" {
  command = plan
  module {
    source = "./tests/new_role"
  }

  assert {
    condition     = output.keys == ["npcnix/remotes/dev.npcnix", "npcnix/remotes/prod.npcnix"]
    error_message = "The remotes are not known at plan."
  }
}
