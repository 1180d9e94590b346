# Lies in site-packages/zarrcy/cmake: find_package(zarrcy CONFIG) finds it where site-packages is on CMAKE_PREFIX_PATH,
# as scikit-build-core puts it there.
#   zarrcy::headers   a target with the directory of zarrcy/zarrcy.h; nothing is linked
#   zarrcy_PXD_DIR    for cython -I
get_filename_component(_zarrcy_package "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
get_filename_component(zarrcy_PXD_DIR "${_zarrcy_package}/.." ABSOLUTE)
if(NOT TARGET zarrcy::headers)
  add_library(zarrcy::headers INTERFACE IMPORTED)
  set_target_properties(zarrcy::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_zarrcy_package}/include")
endif()
unset(_zarrcy_package)
