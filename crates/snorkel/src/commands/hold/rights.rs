//! What no fault can do without.

use snorkel_netns::caps::{self, number};

use crate::failure::Failure;

/// The capabilities, each with what it is for.
const NEEDED: [(u32, &str); 2] = [
    (number::NET_ADMIN, "CAP_NET_ADMIN, to disturb links"),
    (number::SYS_ADMIN, "CAP_SYS_ADMIN, to enter networks"),
];

/// Says in one line what is missing. The kernel would say so too, but only after targets were looked for in vain.
pub(crate) fn needs_rights() -> Result<(), Failure> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(number, _)| !caps::has(*number)).map(|(_, words)| *words).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("a fault needs {}", missing.join(", and "))).hint("sudo snorkel ..."))
}
