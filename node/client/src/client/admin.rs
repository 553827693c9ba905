//! The node itself: its status, its peers, its network.

use std::time::SystemTime;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::DATE;
use starling_api::admin::{Configuration, Doctor, Finalize, Nodes, Peers, Status, Ticket, Upgrade};
use starling_api::token::{MadeToken, NewToken, TokenInfo, Tokens};
use starling_api::trust::{Statements, TicketSpec, Trust};
use starling_api::{Error, ErrorCode};

use super::Client;

impl Client {
    /// The status of the node.
    pub async fn status(&self) -> Result<Status, Error> {
        self.fetch(self.get("/v1/status")).await
    }

    /// The peers that the node knows.
    pub async fn peers(&self) -> Result<Peers, Error> {
        self.fetch(self.get("/v1/peers")).await
    }

    /// The versions that every node speaks and reads, from a crawl. Takes seconds if nodes do not answer.
    pub async fn upgrade(&self) -> Result<Upgrade, Error> {
        self.fetch(self.long_request(Method::GET, "/v1/upgrade")).await
    }

    /// Switches the newest version of stored data on. This cannot be undone.
    pub async fn finalize_upgrade(&self, finalize: &Finalize) -> Result<Upgrade, Error> {
        self.fetch(self.long_request(Method::POST, "/v1/upgrade/finalize").json(finalize)).await
    }

    /// The whole overlay, from a crawl. Takes seconds if nodes do not answer.
    pub async fn nodes(&self) -> Result<Nodes, Error> {
        self.fetch(self.long_request(Method::GET, "/v1/nodes")).await
    }

    /// Checks the whole store. Takes minutes on a large one.
    pub async fn doctor(&self) -> Result<Doctor, Error> {
        self.fetch(self.long_request(Method::GET, "/v1/doctor")).await
    }

    /// The effective configuration.
    pub async fn config(&self) -> Result<Configuration, Error> {
        self.fetch(self.get("/v1/config")).await
    }

    /// A join ticket.
    pub async fn ticket(&self, spec: TicketSpec) -> Result<Ticket, Error> {
        let TicketSpec { uses, expires_ms, seed } = spec;
        let uses = uses.map(|uses| format!("&uses={uses}")).unwrap_or_default();
        let expires = expires_ms.map(|ms| format!("&expires_ms={ms}")).unwrap_or_default();
        // Nodes of release 0.1.0 know no limits.
        let is_plain = spec == TicketSpec::default();
        let limits = if is_plain { String::new() } else { format!("?seed={seed}{uses}{expires}") };
        self.fetch(self.get(&format!("/v1/ticket{limits}"))).await
    }

    /// The authority of the network and its statements, and the node's certificate.
    pub async fn trust(&self) -> Result<Trust, Error> {
        self.fetch(self.get("/v1/trust")).await
    }

    /// The statements of the network's authority that the node has.
    pub async fn statements(&self) -> Result<Statements, Error> {
        self.fetch(self.get("/v1/trust/statements")).await
    }

    /// Passes statements of the authority to the node.
    pub async fn add_statements(&self, statements: &Statements) -> Result<Trust, Error> {
        self.fetch(self.request(Method::POST, "/v1/trust/statements").json(statements)).await
    }

    /// Makes a token for a client.
    pub async fn add_token(&self, new: &NewToken) -> Result<MadeToken, Error> {
        self.fetch(self.request(Method::POST, "/v1/tokens").json(new)).await
    }

    /// The tokens that the issuers of the network have recorded and that have not expired.
    pub async fn tokens(&self) -> Result<Tokens, Error> {
        self.fetch(self.get("/v1/tokens")).await
    }

    /// Revokes a token, by its id or the first digits of it.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenInfo, Error> {
        let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
        self.fetch(self.request(Method::DELETE, &format!("/v1/tokens/{id}"))).await
    }

    /// Has the node leave the network and stop. Other nodes take its votes in strong keyspaces first, unless `force` is
    /// set.
    pub async fn leave(&self, force: bool) -> Result<(), Error> {
        let path = if force { "/v1/leave?force=true" } else { "/v1/leave" };
        self.send(self.long_request(Method::POST, path)).await.map(drop)
    }

    /// Succeeds if the node is ready to serve.
    ///
    /// # Errors
    /// [`ErrorCode::NotReady`] with the reason; or the node does not answer.
    pub async fn ready(&self) -> Result<(), Error> {
        self.send(self.get("/readyz")).await.map(drop)
    }

    /// Whether the node is ready to serve.
    pub async fn is_ready(&self) -> Result<bool, Error> {
        match self.ready().await {
            Ok(()) => Ok(true),
            Err(error) if error.code == ErrorCode::NotReady => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The node's wall clock in whole seconds, as its answer states it. Behind a proxy it may be that of the proxy.
    ///
    /// # Errors
    /// The node does not answer, or its answer states no time.
    pub async fn date(&self) -> Result<SystemTime, Error> {
        let response = self.send(self.get("/healthz")).await?;
        let date =
            response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.ok_or_else(|| Error::not_understood(self.url(), "its answer has no date"))
    }

    /// The metrics in Prometheus' text format.
    pub async fn metrics(&self) -> Result<String, Error> {
        let body = self.body(self.send(self.get("/metrics")).await?).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
