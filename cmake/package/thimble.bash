# Completion of thimble's commands, options and files for bash. It asks the tool, so that it knows what the tool knows.
_thimble() {
  local word=${COMP_WORDS[COMP_CWORD]} tool=${COMP_WORDS[0]} command=${COMP_WORDS[1]} known
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    known=$("$tool" --help 2> /dev/null | sed -n '/^Subcommands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
    mapfile -t COMPREPLY < <(compgen -W "$known --help --version" -- "$word")
  elif [ "${word#-}" != "$word" ]; then
    known=$("$tool" "$command" --help 2> /dev/null | grep -oE '^  -[^ ]*' | tr ', ' '\n\n' | grep '^--')
    mapfile -t COMPREPLY < <(compgen -W "$known" -- "$word")
  else
    compopt -o default
  fi
}
complete -F _thimble thimble
