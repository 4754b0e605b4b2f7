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
