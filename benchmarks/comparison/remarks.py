"""What a profile says of rows that are hard to bring to their target, and the next idea for each."""

REMARKS = {
    "chunk-raw-64k": (
        "three quarters of the time is the kernel's: opening and reading the file. zarrcy opens below the root so "
        "that no link leads out (`openat2`), reads with a second piece of one byte that shows a file that is too "
        "long, and takes 1 to 2 µs for the brackets, the plan and the new array. Next: a spare byte behind arrays "
        "of its own making, so that one plain `pread` does."
    ),
    "chunk-zstd-64k": ("the 1 to 2 µs of a call from Python, beside the decoder; nothing else shows in the profile."),
    "chunk-inner": (
        "the decoder takes more than four fifths of what is not Python's start; the rest is the call, the check "
        "of the index's checksum, which the reference leaves out, and one `fstat` that tells whether a kept index "
        "is that of this file."
    ),
    "point-blosc-8m": (
        "two reads (the table of blocks, the block) and the decoding of one block, which the reference does too; the "
        "rest is the call. Next: one read for the header and the first table."
    ),
    "read-raw-64k": (
        "most of it is the kernel's copy and its zeroing of the pages of the result; the copy out of scratch in "
        "rows of 64 bytes is the rest. Next: results that are used again through `get_slice(out=)` need no new "
        "pages."
    ),
    "read-blosc-1m": (
        "a chunk is decoded whole and then copied to its rows, as by the reference. Its two blocks of 512 KiB "
        "fill the cache of a core each, so that to copy after each of them promises little. Next: an unshuffle "
        "straight into the rows, which the library does not have."
    ),
    "open": (
        "half is the kernel's, six calls: opening the directory and the document, its length, reading it, closing "
        "both; the rest is the making of the store, the metadata and the array, in eight functions of Python. A "
        "document that was not seen lately is parsed and checked on top. Next: an array without a store of its own."
    ),
    "import": (
        "most is the reading and running of 22 modules of Python, about 0.2 ms each, none of them beyond what opening "
        "and reading an array needs; the 20 compiled modules are one file. NumPy itself takes several times as long, "
        "and its own time varies by more than the target. Next: the documents of v2 at their first use."
    ),
}
