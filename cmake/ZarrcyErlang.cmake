# OTP's C library for nodes in C, for stores/ei: the target zarrcy::ei, and ZARRCY_HAVE_EI.
#   auto  when Erlang's erl_interface is installed (Debian: erlang-dev)
#   on    an error when it is not
#   off   not looked for
# ZARRCY_EI_DIR names the directory with include/ei.h and lib/libei.a where it lies elsewhere.
set(ZARRCY_MNESIA "auto" CACHE STRING "auto | on | off: build what MnesiaStore talks through")
set_property(CACHE ZARRCY_MNESIA PROPERTY STRINGS auto on off)
set(ZARRCY_EI_DIR "" CACHE PATH "The directory of Erlang's erl_interface")

set(ZARRCY_HAVE_EI FALSE)
if(ZARRCY_MNESIA STREQUAL "off")
  return()
elseif(NOT ZARRCY_MNESIA MATCHES "^(auto|on)$")
  message(FATAL_ERROR "ZARRCY_MNESIA is \"${ZARRCY_MNESIA}\": expected auto, on or off.")
endif()

set(_ei_dirs "${ZARRCY_EI_DIR}")
find_program(ZARRCY_ERL erl)
if(ZARRCY_ERL)
  execute_process(
    COMMAND "${ZARRCY_ERL}" -noshell -eval "io:put_chars(code:lib_dir(erl_interface)), halt()."
    OUTPUT_VARIABLE _ei_of_erl ERROR_QUIET TIMEOUT 20 RESULT_VARIABLE _ei_failed)
  if(NOT _ei_failed)
    list(APPEND _ei_dirs "${_ei_of_erl}")
  endif()
endif()
file(GLOB _ei_usual /usr/lib/erlang/lib/erl_interface-* /usr/local/lib/erlang/lib/erl_interface-*
     /opt/homebrew/lib/erlang/lib/erl_interface-*)
list(APPEND _ei_dirs ${_ei_usual})
find_path(ZARRCY_EI_INCLUDE ei.h HINTS ${_ei_dirs} PATH_SUFFIXES include)
find_library(ZARRCY_EI_LIBRARY NAMES libei.a ei HINTS ${_ei_dirs} PATH_SUFFIXES lib)

if(ZARRCY_EI_INCLUDE AND ZARRCY_EI_LIBRARY)
  set(ZARRCY_HAVE_EI TRUE)
  add_library(zarrcy_ei INTERFACE)
  add_library(zarrcy::ei ALIAS zarrcy_ei)
  target_include_directories(zarrcy_ei INTERFACE "${ZARRCY_EI_INCLUDE}")
  target_link_libraries(zarrcy_ei INTERFACE "${ZARRCY_EI_LIBRARY}" Threads::Threads)
  # Without it `erl_errno` is one variable for all threads.
  target_compile_definitions(zarrcy_ei INTERFACE _REENTRANT)
elseif(ZARRCY_MNESIA STREQUAL "on")
  message(FATAL_ERROR "ZARRCY_MNESIA=on needs ei.h and libei.a of Erlang/OTP (Debian: erlang-dev), which were not found.")
endif()
message(STATUS "zarrcy mnesia: ${ZARRCY_HAVE_EI} (${ZARRCY_EI_LIBRARY})")
