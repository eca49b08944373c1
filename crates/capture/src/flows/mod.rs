//! What connections there were in a capture, and how they fared.
