mock_provider "aws" {
  mock_data "aws_s3_objects" {
    defaults = { keys = ["npcnix/remotes/dev.npcnix"] }
  }
}

variables {
  remote    = { url = "s3://acme/npcnix/remotes/dev.npcnix", region = "eu-central-1" }
  flake_dir = "./tests/flake"
}

run "all_of_the_flake" {
  command = plan

  assert {
    condition = output.content_hash == sha256(jsonencode({
      for f in ["flake.nix", "hosts/web.nix", "left-out/old.nix"] : f => filesha256("./tests/flake/${f}")
    }))
    error_message = "Names and contents of all files make the hash."
  }
  assert {
    condition     = terraform_data.push.triggers_replace[0] == "s3://acme/npcnix/remotes/dev.npcnix" && terraform_data.push.triggers_replace[1] == output.content_hash
    error_message = "A change of the hash, or of the remote, pushes again."
  }
}

run "some_of_its_directories" {
  command = plan

  variables {
    include = ["hosts"]
  }

  assert {
    condition = output.content_hash == sha256(jsonencode({
      for f in ["flake.nix", "hosts/web.nix"] : f => filesha256("./tests/flake/${f}")
    }))
    error_message = "A directory that is left out is not in the hash; files at the top are."
  }
}

run "a_directory_without_a_flake_is_refused" {
  command = plan

  variables {
    flake_dir = "./tests/flake/hosts"
  }

  expect_failures = [var.flake_dir]
}

run "a_directory_that_there_is_not_is_refused" {
  command = plan

  variables {
    include = ["hosts", "host"]
  }

  expect_failures = [var.include]
}

run "include_takes_names_and_no_paths" {
  command = plan

  variables {
    include = ["hosts/web", ".."]
  }

  expect_failures = [var.include]
}

run "a_remote_elsewhere_than_in_s3_is_refused" {
  command = plan

  variables {
    remote = { url = "https://example.org/dev.npcnix" }
  }

  expect_failures = [var.remote]
}

run "a_remote_that_was_deleted_is_noticed" {
  command = plan

  override_data {
    target = data.aws_s3_objects.remote
    values = { keys = [] }
  }

  expect_failures = [check.published]
}

run "a_remote_of_which_only_records_are_left_is_noticed" {
  command = plan

  override_data {
    target = data.aws_s3_objects.remote
    values = { keys = ["npcnix/remotes/dev.npcnix.acks/web1.json"] }
  }

  expect_failures = [check.published]
}

run "who_cannot_list_the_bucket_omits_the_check" {
  command = plan

  variables {
    check_published = false
  }

  assert {
    condition     = length(data.aws_s3_objects.remote) == 0
    error_message = "The bucket is listed."
  }
}
