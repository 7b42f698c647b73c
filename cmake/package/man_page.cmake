# cmake -DTOOL=... -DIN=... -DOUT=... -DPROJECT_VERSION=... -P man_page.cmake: the manual page, with the commands that the
# tool has and all that `thimble help COMMAND` shows of each.

# roff_text(OUT TEXT): TEXT where lines stand as they are.
function(roff_text out text)
  string(REPLACE "\\" "\\e" text "${text}")
  string(REPLACE "-" "\\-" text "${text}")
  string(REGEX REPLACE "(^|\n)([.'])" "\\1\\\\&\\2" text "${text}")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

execute_process(COMMAND ${TOOL} help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\n  [a-z][a-z-]* " lines "${help}")
# Examples begin with the tool's name.
list(FILTER lines EXCLUDE REGEX "^\n  thimble $")
if(NOT lines)
  message(FATAL_ERROR "${TOOL} help: no commands are found in it")
endif()
set(man_commands "")
foreach(line IN LISTS lines)
  string(STRIP "${line}" command)
  execute_process(COMMAND ${TOOL} help ${command} OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
  roff_text(help "${help}")
  roff_text(name "${command}")
  string(APPEND man_commands ".SS ${name}\n.nf\n${help}.fi\n")
endforeach()
configure_file(${IN} ${OUT} @ONLY)
