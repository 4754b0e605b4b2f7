# shellcheck shell=bash
# Installs npcnix on a NixOS host once, no matter how often the host boots.
#
# NixOS AMIs run user data at every boot (the service amazon-init): in bash, with HOME and a PATH of
# a few programs, without -e and -u. User data describes the host as it was created; npcnix may have
# changed it since. Once npcnix has applied a version, this script only adopts settings that have
# changed in user data. Before that, it tries to install for half an hour at each boot.
#
# Set before it:
#   remote_url, configuration                required
#   remote_region, queue_url, host           may be empty or unset
#   topic_arn                                the same; with a queue_url of auto it is required
#   pre_install_script, post_install_script  shell text; may be empty or unset
#   npcnix_install_url                       what `nix run` runs
#   npcnix_substituters, npcnix_public_keys  binary caches and their keys, separated by spaces
#   npcnix_signers                           keys that sign what the host accepts, one per line; may be empty or unset
#   npcnix_swap_mb, npcnix_min_memory_mb     swap to create, on machines with less memory than this
#   npcnix_swap_file                         default /npcnix-install-swapfile
#   NPCNIX_DATA_DIR                          default /var/lib/npcnix
#
# Everything happens in a subshell, so that only the exit status reaches the caller.
npcnix_boot() (
  set +e
  IFS=$' \t\n'
  : "${remote_url:?must be set before the install script}" "${configuration:?must be set before the install script}"
  export HOME=${HOME:-/root}
  PATH=$PATH:/run/current-system/sw/bin # swapon and the like
  data_dir=${NPCNIX_DATA_DIR:-/var/lib/npcnix}
  post_pending=$data_dir/post-install-pending
  settings_file=$data_dir/user-data-settings # the settings of user data that were last adopted
  # The topic comes before the queue, which needs it if it is auto.
  settings=$(printf '%s=%s\n' remote "$remote_url" remote-region "${remote_region:-}" ${topic_arn:+topic-arn "$topic_arn"} queue-url "${queue_url:-}" host "${host:-}")
  swap_file=${npcnix_swap_file:-/npcnix-install-swapfile}

  journal=(systemd-cat --identifier=npcnix-install) # it execs the command, so the exit status is the command's
  "${journal[@]}" true 2>/dev/null || journal=()

  log() { "${journal[@]}" printf 'npcnix-install: %s\n' "$*" >&2; }

  # applied succeeds once npcnix (this one or the Rust implementation) has applied a version. A key
  # cannot match inside a JSON string, because quotes are escaped there.
  applied() {
    grep -Eqs '"applied"[[:space:]]*:[[:space:]]*\{' "$data_dir/state.json" "$data_dir/state.json.damaged" ||
      grep -Eqs '"last_etag"[[:space:]]*:[[:space:]]*"[^"]' "$data_dir/config.json"
  }

  keep_settings() {
    if ! { printf '%s\n' "$settings" >"$settings_file.new" && sync "$settings_file.new" && mv -f "$settings_file.new" "$settings_file"; }; then
      log "cannot write the settings of user data to $settings_file"
      return 1
    fi
  }

  # take_over_settings sets what has changed in user data and leaves all else alone, since an operator
  # may have set it. It returns 1 if it could not, 2 if it has set anything.
  take_over_settings() {
    local old line changed=()
    if [[ ! -e $settings_file ]]; then
      keep_settings
      return 0
    fi
    old=$'\n'$(<"$settings_file")$'\n'
    while IFS= read -r line; do
      [[ $old == *$'\n'"$line"$'\n'* ]] && continue
      changed+=("$line")
      if ! "${journal[@]}" npcnix config set "${line%%=*}" "${line#*=}" </dev/null >&2; then
        log "user data has changed, but $line could not be set; the next boot tries again"
        return 1
      fi
    done <<<"$settings"
    ((${#changed[@]} > 0)) || return 0
    keep_settings || return 1
    log "user data has changed; took over ${changed[*]}"
    return 2
  }

  remove_swap() {
    [[ -e $swap_file ]] || return 0
    swapoff "$swap_file" 2>/dev/null
    rm -f "$swap_file" || log "the temporary swap file $swap_file is still in use; the next boot removes it"
  }

  make_swap() {
    local key value memory=0
    while read -r key value _; do
      [[ $key != MemTotal: ]] || memory=$((value / 1024))
    done </proc/meminfo
    if ((${npcnix_swap_mb:-2048} == 0 || memory >= ${npcnix_min_memory_mb:-2048})) || [[ -n $(swapon --show --noheadings) ]]; then
      return
    fi
    log "creating ${npcnix_swap_mb:-2048} MiB of temporary swap, because there are only $memory MiB of memory"
    if ! { (umask 077 && fallocate -l "${npcnix_swap_mb:-2048}M" "$swap_file") && mkswap "$swap_file" && swapon "$swap_file"; } >/dev/null; then
      log "swap could not be created; continuing without"
      remove_swap
    fi
  }

  # install_npcnix runs the installer once.
  install_npcnix() {
    local nix_args=() args=(--remote "$remote_url" --configuration "$configuration") word words
    read -ra words <<<"${npcnix_substituters:-}"
    for word in "${words[@]}"; do args+=(--extra-substituters "$word"); done
    ((${#words[@]} == 0)) || nix_args+=(--option extra-substituters "${words[*]}")
    read -ra words <<<"${npcnix_public_keys:-}"
    for word in "${words[@]}"; do args+=(--extra-trusted-public-keys "$word"); done
    ((${#words[@]} == 0)) || nix_args+=(--option extra-trusted-public-keys "${words[*]}")
    [[ -z ${remote_region:-} ]] || args+=(--remote-region "$remote_region")
    [[ -z ${topic_arn:-} ]] || args+=(--topic-arn "$topic_arn")
    while IFS= read -r word; do
      [[ -z $word ]] || args+=(--signer "$word")
    done <<<"${npcnix_signers:-}"
    [[ -z ${queue_url:-} ]] || args+=(--queue-url "$queue_url")
    [[ -z ${host:-} ]] || args+=(--host "$host")
    "${journal[@]}" nix --extra-experimental-features 'nix-command flakes' "${nix_args[@]}" \
      run -L "${npcnix_install_url:?must be set before the install script}" -- "${args[@]}" >&2
  }

  # try_until_installed starts attempts for half an hour; the last one may take longer.
  try_until_installed() (
    trap remove_swap EXIT
    make_swap
    SECONDS=0
    pause=5
    for ((attempt = 1; ; attempt++)); do
      install_npcnix && exit 0
      status=$?
      wait=$((pause / 2 + RANDOM % (pause + 1))) # jitter: 50 to 150 %
      if ((SECONDS + wait > 1800)); then
        log "attempt $attempt ended with status $status; giving up. npcnix is not installed: the lines before say why, and the next boot tries again"
        exit 1
      fi
      log "attempt $attempt ended with status $status; trying again in $wait s"
      sleep "$wait"
      applied && exit 0 # by other means
      pause=$((pause < 150 ? pause * 2 : 300))
    done
  )

  remove_swap # left by an interrupted boot
  if applied; then
    take_over_settings
    taken=$?
    if [[ ! -e $post_pending ]]; then
      ((taken != 0)) || log "npcnix is installed already; nothing to do"
      exit $((taken == 1))
    fi
  else
    if [[ -n ${pre_install_script:-} ]]; then
      trap 'log "pre_install_script ended the shell; npcnix is not installed, the next boot tries again"; exit 1' EXIT
      eval "$pre_install_script"
      status=$?
      set +e
      trap - EXIT
      if ((status != 0)); then
        log "pre_install_script ended with status $status; npcnix is not installed, the next boot tries again"
        exit 1
      fi
    fi
    log "installing $configuration from $remote_url"
    if [[ -n ${post_install_script:-} ]]; then
      mkdir -p "$data_dir" && : >"$post_pending" && sync "$post_pending"
    fi
    try_until_installed || exit
    keep_settings
  fi
  if [[ -n ${post_install_script:-} ]]; then
    (eval "$post_install_script")
    status=$?
    if ((status != 0)); then
      log "post_install_script ended with status $status; the next boot runs it again"
      exit 1
    fi
  fi
  rm -f "$post_pending"
  log "npcnix is installed"
)
npcnix_boot
