locals {
  # Values go into single quotes of the shell, in which only the quote itself has a meaning.
  quote = "'\\''"

  keys = var.root_access ? join("", [for k in var.root_ssh_keys : "${trimspace(k)}\n"]) : ""

  # What is long; known at plan.
  head = [
    "#!/usr/bin/env bash",
    "# shellcheck disable=SC2016 # keys and scripts stand in single quotes",
    "npcnix_root_ssh_keys='${replace(local.keys, "'", local.quote)}'",
    # Without its lines of comment, so that an edit of one does not stop and start a fleet.
    replace(file("${path.module}/root-keys.sh"), "/(?m)^[ \\t]*#.*\\n/", ""),
  ]
  install = var.install == null ? [] : [
    "pre_install_script='${replace(var.pre_install_script, "'", local.quote)}'",
    "post_install_script='${replace(var.post_install_script, "'", local.quote)}'",
    var.install.install_script,
  ]

  # What may be known only when the queue and the bucket are there.
  settings = var.install == null ? [] : [
    for name, value in {
      remote_url    = var.remote.url
      remote_region = var.remote.region
      queue_url     = local.queue ? module.host_queue[0].queue_url : ""
      configuration = local.configuration
      host          = var.hostname
    } : "${name}='${replace(value, "'", local.quote)}'"
  ]

  user_data = "${join("\n", concat(local.head, local.settings, local.install))}\n"

  # Bytes, where length() counts characters; and what the settings may at most need.
  long_bytes = length(base64encode(join("\n", concat(local.head, local.install)))) * 3 / 4
  limit      = 16384 - 1500
}
