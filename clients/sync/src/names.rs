//! Names as the volume compares them.
