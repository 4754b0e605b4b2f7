locals {
  # Values are single-quoted for the shell; only the quote itself is special there.
  quote = "'\\''"

  keys = var.root_access ? join("", [for k in var.root_ssh_keys : "${trimspace(k)}\n"]) : ""

  # The long parts, known at plan.
  head = [
    "#!/usr/bin/env bash",
    "# shellcheck disable=SC2016 # keys and scripts stand in single quotes",
    "npcnix_root_ssh_keys='${replace(local.keys, "'", local.quote)}'",
    # Without comment lines, so that an edited comment does not stop and start a fleet.
    replace(file("${path.module}/root-keys.sh"), "/(?m)^[ \\t]*#.*\\n/", ""),
  ]
  install = var.install == null ? [] : [
    "pre_install_script='${replace(var.pre_install_script, "'", local.quote)}'",
    "post_install_script='${replace(var.post_install_script, "'", local.quote)}'",
    var.install.install_script,
  ]

  # May be unknown until queue and bucket exist.
  settings = var.install == null ? [] : [
    for name, value in {
      remote_url    = var.remote.url
      remote_region = var.remote.region
      queue_url     = local.queue ? one(module.host_queue[*].queue_url) : ""
      configuration = local.configuration
      host          = var.hostname
    } : "${name}='${replace(value, "'", local.quote)}'"
  ]

  user_data = "${join("\n", concat(local.head, local.settings, local.install))}\n"

  # In bytes, which length() does not count; the settings need at most 1500.
  long_bytes = length(base64encode(join("\n", concat(local.head, local.install)))) * 3 / 4
  limit      = 16384 - 1500
}
