//! Any text as a join ticket: parsed or refused; what parses prints to the same ticket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_bootstrap::Ticket;

fuzz_target!(|text: &str| {
    if let Ok(ticket) = text.parse::<Ticket>() {
        let printed = ticket.to_string();
        assert_eq!(printed.parse::<Ticket>().as_ref(), Ok(&ticket));
    }
});
