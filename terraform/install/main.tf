locals {
  # Values are single-quoted for the shell; only the quote itself is special there.
  quoted = {
    for name, value in {
      npcnix_install_url  = var.npcnix_install_url
      npcnix_substituters = join(" ", var.extra_substituters)
      npcnix_public_keys  = join(" ", var.extra_trusted_public_keys)
      npcnix_signers      = join("\n", [for key in var.signers : trimspace(key)])
    } : name => "'${replace(value, "'", "'\\''")}'"
  }

  install_script = join("\n", concat(
    [for name, value in local.quoted : "${name}=${value}"],
    ["npcnix_swap_mb=${var.swap_mb}", "npcnix_min_memory_mb=${var.min_memory_mb}"],
    # Without comment lines, so that an edited comment does not stop and start a fleet.
    [replace(file("${path.module}/boot.sh"), "/(?m)^[ \\t]*#.*\\n/", "")],
  ))
}
