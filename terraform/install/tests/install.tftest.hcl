run "defaults" {
  command = plan

  assert {
    condition     = startswith(output.install_script, "npcnix_install_url='github:npcnix/npcnix#install'\n")
    error_message = "The assignments come before the script."
  }
  assert {
    condition     = endswith(output.install_script, join("\n", [for line in split("\n", file("./boot.sh")) : line if !startswith(trimspace(line), "#")]))
    error_message = "The script is boot.sh as it stands, without its lines of comment."
  }
  assert {
    condition     = length(regexall("(?m)^\\s*#", output.install_script)) == 0 && strcontains(output.install_script, "\nnpcnix_boot() (\n")
    error_message = "An edit of a comment would change the user data of a fleet."
  }
  assert {
    condition     = strcontains(output.install_script, "\nnpcnix_swap_mb=2048\nnpcnix_min_memory_mb=2048\n")
    error_message = "2 GiB of swap are made below 2 GiB of memory."
  }
  assert {
    condition     = length(output.install_script) < 8192
    error_message = "The script leaves half of user data's 16 KB to the user."
  }
}

run "values_are_quoted_for_the_shell" {
  command = plan

  variables {
    npcnix_install_url        = "path:/srv/it's $HOME#`install`"
    extra_substituters        = ["https://one.example.org", "https://two.example.org?a=$b"]
    signers                   = ["release ssh-ed25519 AAAA\n", "* ssh-ed25519 BBBB o'brien"]
    extra_trusted_public_keys = ["one-1:AAAA+/=", "two-1:BBBB"]
    swap_mb                   = 0
    min_memory_mb             = 900
  }

  assert {
    condition     = strcontains(output.install_script, "npcnix_install_url='path:/srv/it'\\''s $HOME#`install`'\n")
    error_message = "A quote within a value ends, escapes and begins the quotation."
  }
  assert {
    condition     = strcontains(output.install_script, "npcnix_substituters='https://one.example.org https://two.example.org?a=$b'\n")
    error_message = "Binary caches are separated by blanks."
  }
  assert {
    condition     = strcontains(output.install_script, "npcnix_public_keys='one-1:AAAA+/= two-1:BBBB'\n")
    error_message = "Keys are separated by blanks."
  }
  assert {
    condition     = strcontains(output.install_script, "npcnix_signers='release ssh-ed25519 AAAA\n* ssh-ed25519 BBBB o'\\''brien'\n")
    error_message = "Signers have a line each."
  }
  assert {
    condition     = strcontains(output.install_script, "\nnpcnix_swap_mb=0\nnpcnix_min_memory_mb=900\n")
    error_message = "The figures are the user's."
  }
}

run "bad_input_is_refused" {
  command = plan

  variables {
    npcnix_install_url        = " "
    extra_substituters        = ["https://one.example.org https://two.example.org"]
    extra_trusted_public_keys = ["no-colon"]
    signers                   = ["two\nlines"]
    swap_mb                   = -1
    min_memory_mb             = 0.5
  }

  expect_failures = [
    var.npcnix_install_url,
    var.extra_substituters,
    var.extra_trusted_public_keys,
    var.signers,
    var.swap_mb,
    var.min_memory_mb,
  ]
}
