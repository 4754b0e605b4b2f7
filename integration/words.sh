#!/usr/bin/env bash
# Looks for words that this project has replaced by others, so that one thing has one name:
# CONTRIBUTING.md says which and why. Prints each line that has one, then a count per folder.
#
#   integration/words.sh [PATH]...      # WORDS_ROOT is the repository to search: this one
#
# Exit codes: 0 none was found, 1 some were, 2 the search failed.
#
# Not searched: CHANGELOG.md and the dated pages in docs/design, which are history; CONTRIBUTING.md; and this
# file and its test.
# Code that reads what an earlier npcnix wrote has these words too. Its files and samples are named
# schema1…; elsewhere such a line says "old form" or "former name", and a file of which many lines are such
# has a line with "words: old forms".
set -uo pipefail
cd "${WORDS_ROOT:-$(dirname "$0")/..}" || exit 2

# One Perl expression a line, with what to say instead. Upper and lower case are the same.
words=$(grep -v '^$' <<'WORDS'
hindrance|hinder(s|ed|ing)?(?![a-z])                       # transient error
\b(take|takes|taken|taking|took)[ -]?back\b|TakeBack|TakenBack|way back # roll back, abandon
\bundo(es|ne|ing)?\b                                       # roll back
\bpro(ve|ves|ved|ven|ving|of|ofs)(?![a-z])                 # verify, verification; show
(?<!is a )dead[ -]man('s)?[ -]switch                            # rollback timer
boots[ -]next|boot(ed)? next                               # boot default; reboot pending
strand(ed|s|ing)(?![a-z])                                  # rollback failed
unsettled                                                  # needs repair
(?<!units )(?<!did not )(?<![a-z])settl(e|es|ed|ing)(?![a-z]|[_-]?secs|\(\)) # acknowledge, release, extend
(?<![a-z])pulse(s|d)?(?![a-z])                             # health
by hand\b                                                  # by an operator; manually
\bsomebody\b                                               # an operator, another process, anyone
\bmend(s|ed|ing)?(?![a-z])                                 # fix
\bmay not\b                                                # cannot, must not
\b(leave|leaves|left|leaving) away\b                       # omit
\banew\b                                                   # again
\bnix\.Order\b|\bActivateError\b                           # activation.Request, activation.Error
confirm_?timeout|activation_?timeout                       # verify_timeout_secs, switch_timeout_secs
"(ordered|confirming|rolling-back|rolled-back|stranded)"   # the phases of nix/activation
(?-i:[a-z](WayBack|ByHand|DeadMan|BootsNext|Mends?(?![a-z])|Anew|Pro(ve|ves|of|ofs)(?![a-z])|MayNot|LeftAway)) # the same, in names
(log|slog|logger)[^ ]*\((.*, )?"err",                      # the key is "error"
WORDS
)
pattern=$(sed -E 's/ *# .*//' <<<"$words" | paste -sd'|')

mapfile -t old < <(git grep -lF 'words: old forms' -- ':!integration/words.sh')
found=$(git grep -nIiP "$pattern" -- "${@:-.}" ':!CHANGELOG.md' ':!docs/design/20*' ':!integration/words.sh' ':!CONTRIBUTING.md' ':!integration/rules/words_test.go' \
  ':(exclude,glob)**/schema1*' ':(exclude,glob)**/schema1/**' "${old[@]/#/:!}" ':!go.sum')
case $? in 0) ;; 1) exit 0 ;; *) exit 2 ;; esac
found=$(grep -vE 'old form|[Ff]ormer name|Old: ' <<<"$found") || exit 0
echo "$found"
echo
echo "Words that this project replaced (integration/words.sh says by which), by folder:"
sed -E 's/:.*//; s,^([^/]+/[^/]+)/.*,\1,; s,^([^/]+)/[^/]+$,\1,' <<<"$found" | sort | uniq -c
exit 1
