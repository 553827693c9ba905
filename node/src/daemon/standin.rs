//! Temporary.
use std::fmt;
use std::path::Path;
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TicketError(pub String);
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkFileError(pub String);
#[derive(Clone, Debug)]
pub struct Ticket { pub network: [u8; 16], pub secret: [u8; 32], pub addresses: Vec<String> }
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "starling1{}.{}.{}", super::report::hex(&self.network), super::report::hex(&self.secret), self.addresses.join("+"))
    }
}
fn unhex(text: &str) -> Option<Vec<u8>> { (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect() }
impl std::str::FromStr for Ticket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let wrong = || TicketError("wrong".into());
        let mut parts = text.strip_prefix("starling1").ok_or_else(wrong)?.split('.');
        let network = parts.next().and_then(unhex).and_then(|v| v.try_into().ok()).ok_or_else(wrong)?;
        let secret = parts.next().and_then(unhex).and_then(|v| v.try_into().ok()).ok_or_else(wrong)?;
        let rest: Vec<&str> = parts.collect();
        let rest = rest.join(".");
        Ok(Self { network, secret, addresses: rest.split('+').filter(|a| !a.is_empty()).map(Into::into).collect() })
    }
}
#[derive(Clone)]
pub struct NetworkFile { pub id: [u8; 16], pub secrets: Vec<[u8; 32]> }
impl NetworkFile {
    pub fn load(path: &Path) -> Result<Option<Self>, NetworkFileError> {
        let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
        let ticket: Ticket = text.trim().parse().map_err(|e: TicketError| NetworkFileError(e.0))?;
        Ok(Some(Self { id: ticket.network, secrets: vec![ticket.secret] }))
    }
    pub fn save(&self, path: &Path) -> Result<(), NetworkFileError> {
        let ticket = Ticket { network: self.id, secret: self.secrets[0], addresses: vec![] };
        std::fs::write(path, ticket.to_string()).map_err(|e| NetworkFileError(e.to_string()))
    }
}
