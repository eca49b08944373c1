//! From a packet's bytes to the line that says what it is.
