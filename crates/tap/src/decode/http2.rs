//! stub
use super::{Decoder, Garbled, Output};
use crate::event::{Direction, Time};
#[derive(Debug, Default)]
pub(crate) struct Http2;
impl Http2 { pub(crate) fn new() -> Http2 { Http2 } }
impl Decoder for Http2 {
    fn feed(&mut self, _: Direction, _: Time, _: &[u8], _: &mut Output<'_>) -> Result<(), Garbled> { Err(Garbled("not there")) }
}
