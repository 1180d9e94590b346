# Where the C libraries of the codecs come from: the target zarrcy::codecs.
#   wheels  the static libraries inside the build requirements blosc2 and blosc (zstd, lz4, zlib-ng are inside the former)
#   system  pkg-config: libzstd, liblz4, blosc and zlib, for conda, Spack and distributions
# libdeflate is linked when pkg-config finds it, in either case.
set(ZARRCY_CODECS "wheels" CACHE STRING "wheels | system")
set_property(CACHE ZARRCY_CODECS PROPERTY STRINGS wheels system)

add_library(zarrcy_codecs INTERFACE)
add_library(zarrcy::codecs ALIAS zarrcy_codecs)
target_include_directories(zarrcy_codecs INTERFACE "${CMAKE_CURRENT_SOURCE_DIR}/zarrcy/codecs/lib")
find_package(PkgConfig QUIET)

if(ZARRCY_CODECS STREQUAL "system")
  if(NOT PkgConfig_FOUND)
    message(FATAL_ERROR "ZARRCY_CODECS=system needs pkg-config, which was not found.")
  endif()
  pkg_check_modules(ZARRCY_SYSTEM REQUIRED IMPORTED_TARGET libzstd>=1.4 liblz4>=1.9 blosc>=1.21)
  find_package(ZLIB REQUIRED)
  target_link_libraries(zarrcy_codecs INTERFACE PkgConfig::ZARRCY_SYSTEM ZLIB::ZLIB)
  target_compile_definitions(zarrcy_codecs INTERFACE ZARRCY_CODECS_FROM="system")
elseif(ZARRCY_CODECS STREQUAL "wheels")
  # scikit-build-core puts the build environment's site-packages on CMAKE_PREFIX_PATH, where blosc2's own config lies.
  find_package(Blosc2 CONFIG REQUIRED)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import importlib.metadata as m
files = {f.name: f.locate().resolve() for f in m.files('blosc')}
print(files['blosc.h'].parent, files.get('libblosc.a') or files['libblosc.lib'], sep=';', end='')"
    OUTPUT_VARIABLE _blosc1 COMMAND_ERROR_IS_FATAL ANY)
  list(GET _blosc1 0 _blosc1_include)
  list(GET _blosc1 1 _blosc1_library)
  target_include_directories(zarrcy_codecs INTERFACE "${_blosc1_include}")
  target_link_libraries(zarrcy_codecs INTERFACE Blosc2::blosc2_static "${_blosc1_library}")
  target_compile_definitions(zarrcy_codecs INTERFACE
    ZARRCY_CODECS_FROM="wheels" ZARRCY_HAVE_BLOSC2=1 ZARRCY_HAVE_ZLIB_NG=1 ZARRCY_NO_HEADERS=1)
else()
  message(FATAL_ERROR "ZARRCY_CODECS is \"${ZARRCY_CODECS}\": expected wheels or system.")
endif()

if(PkgConfig_FOUND)
  pkg_check_modules(ZARRCY_LIBDEFLATE QUIET IMPORTED_TARGET libdeflate>=1.10)
  if(ZARRCY_LIBDEFLATE_FOUND)
    target_link_libraries(zarrcy_codecs INTERFACE PkgConfig::ZARRCY_LIBDEFLATE)
    target_compile_definitions(zarrcy_codecs INTERFACE ZARRCY_HAVE_LIBDEFLATE=1)
  endif()
endif()
message(STATUS "zarrcy codecs from ${ZARRCY_CODECS}; libdeflate: ${ZARRCY_LIBDEFLATE_FOUND}")
