# Completion of thimble's commands, options, their values and files for bash. It asks the tool, so that it knows what the tool knows.
_thimble() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} tool=${COMP_WORDS[0]} command=${COMP_WORDS[1]} help known=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ] || { [ "$command" = help ] && [ "$COMP_CWORD" -eq 2 ]; }; then
    # Commands begin lines by two spaces; so do examples, by the tool's name.
    known="help --help --version $("$tool" help 2> /dev/null | grep -oE '^  [a-z][a-z-]* ' | grep -vE '^  thimble ')"
  else
    help=$("$tool" help "$command" 2> /dev/null)
    case $before in
      --board) known=$("$tool" boards 2> /dev/null | grep -oE '^[^ ]+') ;;
      # "  --head auto|full|screen" is an option with three values.
      -*) known=$(grep -oE "^  (-[^ ]*,)?$before [a-z0-9_]+(\|[a-z0-9_]+)+" <<< "$help" | grep -oE '[^ ]*$' | tr '|' ' ') ;;
    esac
    if [ -z "$known" ] && [ "${word#-}" != "$word" ]; then
      known=$(grep -oE '^  -[^ ]*' <<< "$help" | tr ', ' '\n\n' | grep '^--')
    fi
  fi
  if [ -n "$known" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$known" -- "$word")
  else
    compopt -o default
  fi
}
complete -F _thimble thimble
