locals {
  # Directories at the top that are not read: .git, .direnv, result and result-* hold no configuration, but links into
  # the nix store, which fileset would follow. A pattern cannot say "not this word"; so these patterns list, letter by
  # letter, where a name departs from each word.
  dirs = length(var.include) > 0 ? [for d in var.include : replace(d, "/([*?\\[\\]{}\\\\])/", "\\$1")] : concat(
    ["[^.r]*", ".[^dg]*", ".git?*", ".direnv?*", "result[^\\-]*"],
    flatten([
      for word, shared in { ".git" = 2, ".direnv" = 2, "result" = 1 } : [
        for i in range(shared, length(word)) : [substr(word, 0, i), "${substr(word, 0, i)}[^${substr(word, i, 1)}]*"]
      ]
    ]),
  )

  # "*" fails on dangling links, which result becomes after a garbage collection; "**" skips those, but reads
  # everything.
  top = try(fileset(var.flake_dir, "*"), [for f in fileset(var.flake_dir, "**") : f if !strcontains(f, "/")])

  # npcnix pack leaves out what Terraform keeps beside its files. State would change the content with each apply, after
  # the plan has announced it, and may hold secrets.
  files = [for f in setunion(
    [for f in local.top : f if !can(regex("^(\\.git|result|result-.*)$", f))],
    [for d in local.dirs : fileset(var.flake_dir, "${d}/**")]...
  ) : f if !can(regex("(^|/)\\.terraform/|\\.tfstate$|\\.tfstate\\.[^/]*$", f))]

  content_hash = sha256(jsonencode({ for f in local.files : f => filesha256("${var.flake_dir}/${f}") }))

  remote = regex("^s3://(?P<bucket>[^/?]+)/(?P<key>[^?]+)", var.remote.url)
}

resource "terraform_data" "push" {
  triggers_replace = [var.remote.url, local.content_hash]

  # The shell only finds the program; the words reach it as its arguments, so no name is taken apart. Terraform
  # appends the command as the last one. If the push fails, the resource is tainted and replaced by the next apply.
  provisioner "local-exec" {
    interpreter = concat(
      ["/bin/sh", "-c", file("${path.module}/push.sh"), "push.sh", var.npcnix, "push", "--src", var.flake_dir],
      flatten([for d in var.include : ["--include", d]]),
      var.remote.region == null ? [] : ["--remote-region", var.remote.region],
      ["--remote"],
    )
    command = var.remote.url
  }
}

# A push leaves nothing in the state that a deleted object would contradict. This is read at each plan, without
# depends_on: otherwise it would be unknown, and warn, whenever a push is due. It is not nested in the check: Terraform
# plans to read such data again during the apply, and no plan would be empty.
data "aws_s3_objects" "remote" {
  count = var.check_published ? 1 : 0

  bucket   = local.remote.bucket
  prefix   = local.remote.key
  max_keys = 1 # the key sorts before all others that begin with it
}

check "published" {
  assert {
    condition     = !var.check_published || contains(try(data.aws_s3_objects.remote[0].keys, []), local.remote.key)
    error_message = "${var.remote.url} does not exist. If this run publishes it, ignore this. Otherwise it was deleted, and hosts cannot fetch it: publish it again with terraform apply -replace='ADDRESS', where ADDRESS is terraform_data.push of this module, such as module.upload.terraform_data.push."
  }
}
