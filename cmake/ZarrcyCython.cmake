# zarrcy_module(<path without suffix below zarrcy/> [ENGINE] [CXX] [SOURCES ...] [LINK ...] [INCLUDE ...]):
# cythonize zarrcy/<path>.pyx, build it, install it beside the Python sources. With ENGINE it becomes a part of the file
# that zarrcy_engine() makes: what `import zarrcy` loads is mapped once.
function(zarrcy_module path)
  cmake_parse_arguments(ARG "CXX;ENGINE" "" "SOURCES;LINK;INCLUDE" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/zarrcy/${path}.pyx")
    return()
  endif()
  string(REPLACE "/" "." module "${path}")
  string(REPLACE "/" "_" target "${path}")
  get_filename_component(name "${path}" NAME)
  get_filename_component(folder "${path}" DIRECTORY)

  set(suffix c)
  set(language)
  if(ARG_CXX)
    set(suffix cpp)
    set(language --cplus)
  endif()
  set(pyx "${CMAKE_CURRENT_SOURCE_DIR}/zarrcy/${path}.pyx")
  set(generated "${CMAKE_CURRENT_BINARY_DIR}/${target}.${suffix}")
  add_custom_command(
    OUTPUT "${generated}"
    COMMAND Python::Interpreter -P -m cython ${language} -3 --module-name zarrcy.${module}
            -X boundscheck=False -X wraparound=False -X initializedcheck=False -X cdivision=True
            -X embedsignature=True -Werror
            -M --depfile -I "${CMAKE_CURRENT_SOURCE_DIR}" "${pyx}" -o "${generated}"
    DEPENDS "${pyx}"
    DEPFILE "${generated}.dep"
    VERBATIM)

  list(TRANSFORM ARG_SOURCES PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  if(ARG_ENGINE)
    set_property(GLOBAL APPEND PROPERTY ZARRCY_ENGINE_MODULES "zarrcy.${module}")
    set_property(GLOBAL APPEND PROPERTY ZARRCY_ENGINE_SOURCES "${generated}" ${ARG_SOURCES})
    set_property(GLOBAL APPEND PROPERTY ZARRCY_ENGINE_LINK ${ARG_LINK})
    return()
  endif()
  Python_add_library(${target} MODULE WITH_SOABI "${generated}" ${ARG_SOURCES})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME "${name}"
    LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/${folder}")
  target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/zarrcy/kernels" ${ARG_INCLUDE})
  target_link_libraries(${target} PRIVATE ${ARG_LINK})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # Nothing of the static codec libraries may leak into the symbols of the process.
    target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--gc-sections)
  endif()
  install(TARGETS ${target} DESTINATION "zarrcy/${folder}")
endfunction()

# The module zarrcy.engine, which holds those that were declared with ENGINE and finds them by the list of their names.
function(zarrcy_engine)
  get_property(modules GLOBAL PROPERTY ZARRCY_ENGINE_MODULES)
  get_property(sources GLOBAL PROPERTY ZARRCY_ENGINE_SOURCES)
  get_property(link GLOBAL PROPERTY ZARRCY_ENGINE_LINK)
  zarrcy_module(engine LINK ${link})
  target_sources(engine PRIVATE ${sources})
  string(JOIN "," names ${modules})
  target_compile_definitions(engine PRIVATE "ZARRCY_ENGINE_MODULES=\"${names}\"")
endfunction()
