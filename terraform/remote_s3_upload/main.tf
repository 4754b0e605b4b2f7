locals {
  # Directories at the top that are not looked into, as they hold no configuration but links
  # into the nix store, which fileset would follow: .git, .direnv, result, result-*. Patterns
  # cannot say "not this word"; so these say in turn where a name departs from each of them.
  dirs = length(var.include) > 0 ? [for d in var.include : replace(d, "/([*?\\[\\]{}\\\\])/", "\\$1")] : concat(
    ["[^.r]*", ".[^dg]*", ".git?*", ".direnv?*", "result[^\\-]*"],
    flatten([
      for word, shared in { ".git" = 2, ".direnv" = 2, "result" = 1 } : [
        for i in range(shared, length(word)) : [substr(word, 0, i), "${substr(word, 0, i)}[^${substr(word, i, 1)}]*"]
      ]
    ]),
  )

  # "*" stumbles over links that lead nowhere, as result does after a garbage collection; "**"
  # passes them by, but looks into everything.
  top = try(fileset(var.flake_dir, "*"), [for f in fileset(var.flake_dir, "**") : f if !strcontains(f, "/")])

  files = setunion(
    [for f in local.top : f if !can(regex("^(\\.git|result|result-.*)$", f))],
    [for d in local.dirs : fileset(var.flake_dir, "${d}/**")]...
  )

  content_hash = sha256(jsonencode({ for f in local.files : f => filesha256("${var.flake_dir}/${f}") }))
}

resource "terraform_data" "push" {
  triggers_replace = [var.remote.url, local.content_hash]

  # The interpreter is the program itself, and the command its last argument: there is no shell
  # that could take a name apart. If it fails, the resource is tainted and made again next time.
  provisioner "local-exec" {
    interpreter = concat(
      [var.npcnix, "push", "--src", var.flake_dir],
      flatten([for d in var.include : ["--include", d]]),
      var.remote.region == null ? [] : ["--remote-region", var.remote.region],
      ["--remote"],
    )
    command = var.remote.url
  }
}
