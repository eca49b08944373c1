//! What a fault is called: short enough to be typed at night, and no other's.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Letters and digits that are not taken for each other.
const LETTERS: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
/// So long at most.
const LONGEST: usize = 12;

/// A fault's name, as `f3k`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FaultId(String);

impl FaultId {
    /// A name by chance; of so many letters behind the `f`.
    pub(crate) fn by_chance(letters: usize) -> FaultId {
        let mut chance = RandomState::new().build_hasher().finish();
        let mut name = String::from("f");
        for _ in 0..letters.min(LONGEST - 1) {
            let count = LETTERS.len() as u64;
            // Within the letters, as a remainder is.
            name.push(char::from(LETTERS[(chance % count) as usize]));
            chance /= count;
        }
        FaultId(name)
    }

    /// As it is typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FaultId {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultId, String> {
        let fits = text.len() <= LONGEST
            && text.strip_prefix('f').is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
        if fits { Ok(FaultId(text.to_owned())) } else { Err(format!("{text:?} is no fault's name")) }
    }
}

impl TryFrom<String> for FaultId {
    type Error = String;
    fn try_from(text: String) -> Result<FaultId, String> {
        text.parse()
    }
}

impl From<FaultId> for String {
    fn from(id: FaultId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_by_chance_is_a_name() {
        for letters in 1..20 {
            let id = FaultId::by_chance(letters);
            assert_eq!(id.as_str().parse(), Ok(id.clone()));
        }
        assert_eq!(FaultId::by_chance(2).as_str().len(), 3);
    }

    #[test]
    fn nothing_that_could_lead_out_of_a_directory_is_a_name() {
        for wrong in ["", "f", "g12", "f/x", "f..", "f3K", "f123456789012", "f\0"] {
            assert!(wrong.parse::<FaultId>().is_err(), "{wrong:?}");
        }
    }
}
