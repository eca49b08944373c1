//! Time stamps of pcapng: `if_tsresol` and `if_tsoffset` of draft-ietf-opsawg-pcapng, section 4.2.

/// What an interface's time stamps mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) unit: Unit,
    /// Seconds to be added.
    pub(super) offset: i64,
}

/// The unit of a time stamp.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// This part of a nanosecond.
    Part(u128),
    /// 2 to the minus this part of a second.
    Binary(u32),
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { unit: Unit::Nanoseconds(1000), offset: 0 }
    }
}

impl Unit {
    /// Of `if_tsresol`: a negative power of 10, or of 2 if the highest bit is set.
    pub(super) fn of(resolution: u8) -> Unit {
        let power = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            Unit::Binary(power)
        } else if power <= 9 {
            Unit::Nanoseconds(10u64.pow(9 - power))
        } else {
            // 10^38 is the last power that fits; of anything beyond it 2^64 are no nanosecond.
            Unit::Part(10u128.checked_pow(power - 9).unwrap_or(u128::MAX))
        }
    }
}

impl Clock {
    /// A time stamp in nanoseconds since 1970; what lies before is 1970, what lies after 2554 is that.
    #[inline]
    pub(super) fn nanoseconds(&self, ticks: u64) -> u64 {
        let since = match self.unit {
            Unit::Nanoseconds(unit) if self.offset == 0 => return ticks.saturating_mul(unit),
            Unit::Nanoseconds(unit) => u128::from(ticks) * u128::from(unit),
            Unit::Part(part) => u128::from(ticks) / part,
            Unit::Binary(power) => (u128::from(ticks) * 1_000_000_000).checked_shr(power).unwrap_or(0),
        };
        // Below 2^64 * 10^9, so that both fit.
        let moved = since.cast_signed() + i128::from(self.offset) * 1_000_000_000;
        u64::try_from(moved.max(0)).unwrap_or(u64::MAX)
    }
}
