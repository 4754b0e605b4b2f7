# shellcheck shell=sh
# Runs its arguments, whose first is the npcnix program.
if ! command -v "$1" >/dev/null; then
  echo "npcnix is needed to publish, but there is no program \"$1\" on the machine that runs Terraform. Install npcnix there, or set the input npcnix of module remote_s3_upload to its path." >&2
  exit 127
fi
exec "$@"
