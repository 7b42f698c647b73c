# thimble_service_page(FOLDER OUT RESULT): the page of service/page, as text in a source file of the folder OUT, whose name
# is put into RESULT. For this build and for the ESP-IDF project.
function(thimble_service_page folder out result)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${folder}/page.html ${folder}/page.css ${folder}/figures.js ${folder}/page.js)
  file(READ ${folder}/page.html page_html)
  file(READ ${folder}/page.css page_style)
  file(READ ${folder}/figures.js page_figures)
  file(READ ${folder}/page.js page_script)
  string(REPLACE "%STYLE%" "${page_style}" page_html "${page_html}")
  string(REPLACE "%SCRIPT%" "${page_figures}${page_script}" page_html "${page_html}")
  configure_file(${folder}/page.cc.in ${out}/page.cc @ONLY)
  set(${result} ${out}/page.cc PARENT_SCOPE)
endfunction()
