//! `testnet chaos doctor`: finds the unhealthy nodes of a running network, and retires them where it is asked to.
//!
//! A node is unhealthy if it answers neither at the beginning nor at the end of the observation, or if its storage fails at both
//! ends. To retire one means: a node that answers leaves, and hands its votes over first; the votes of one that does not are given
//! to healthy nodes, and, where the network has an authority and its key is there, the node is revoked. What must never happen: that
//! a group is changed of which no majority is healthy, or that most of the network is retired by a machine that is itself cut off.

mod plan;

use std::path::PathBuf;
use std::process::Stdio;

use serde::Serialize;
use serde_json::json;
use starling_api::strong::Voters;
use starling_client::Client;

use crate::Common;
use crate::conformity::{self, Examined, Set};
use crate::error::{Error, Result};
use crate::progress::Phase;
use plan::{Patient, Step, patients, plan};

/// What to examine, and what to do about it.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    examination: conformity::Options,
    /// Retire unhealthy nodes: those that answer leave, the votes of the others go to healthy nodes
    #[arg(long)]
    retire: bool,
    /// Also revoke those that do not answer, for good, with this key of the network's authority (runs `starling member revoke`)
    #[arg(long, value_name = "FILE", requires = "retire")]
    key: Option<PathBuf>,
}

/// One step of the retirement of a node, and what came of it.
#[derive(Debug, Serialize)]
struct Done {
    step: String,
    /// "to do", "done", "kept", or why it failed.
    outcome: String,
}

/// A node that is to be retired, and how far that is.
#[derive(Debug, Serialize)]
struct Retired {
    #[serde(flatten)]
    patient: Patient,
    steps: Vec<Done>,
}

impl Options {
    /// Examines the network, retires unhealthy nodes if it is to, and prints both.
    ///
    /// # Errors
    /// A rule is broken; or, where nodes are to be retired, one could not be.
    pub async fn run(&self, common: &Common) -> Result<()> {
        let examined = self.examination.examine(Some(Set::Doctor)).await?;
        let patients = patients(&examined.facts);
        let planned = plan(&examined.facts, &patients, self.key.is_some() || !self.retire);
        let (retired, refused) = match planned {
            Ok(steps) => (self.retire(common, &examined, patients, steps).await, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let values = json!({ "rules": examined.rows, "unhealthy": retired, "refused": refused });
        let report = examined.report(&values);
        let report = retired
            .iter()
            .map(Retired::text)
            .chain(refused.clone())
            .fold(report, starling_report::Report::line);
        common.output.print(&report);
        if !self.retire {
            return examined.verdict();
        }
        let failed = retired.iter().filter(|it| it.steps.iter().any(|step| step.outcome != DONE)).count();
        match refused {
            Some(reason) => Err(Error::Broken(reason)),
            None if failed > 0 => {
                Err(Error::Broken(format!("{failed} of {} nodes could not be retired", retired.len())))
            }
            None => Ok(()),
        }
    }

    /// Takes all steps, one after the other: each change of voters is made before the next one begins.
    async fn retire(
        &self,
        common: &Common,
        examined: &Examined,
        patients: Vec<Patient>,
        planned: Vec<Vec<Step>>,
    ) -> Vec<Retired> {
        let mut retired = Vec::new();
        for (patient, steps) in patients.into_iter().zip(planned) {
            let mut done: Vec<Done> = Vec::new();
            for step in steps {
                // A node keeps its place while a step before has failed.
                let is_stuck = done.iter().any(|it| it.outcome != DONE);
                let outcome = match &step {
                    Step::Keep(_) => KEPT.to_owned(),
                    _ if !self.retire => TO_DO.to_owned(),
                    _ if is_stuck => KEPT.to_owned(),
                    step => {
                        let phase = Phase::begin(step.command(&patient), 0);
                        let result = self.take(common, examined, &patient, step).await;
                        let outcome = result.err().map_or_else(|| DONE.to_owned(), |error| error.to_string());
                        phase.done(&outcome);
                        outcome
                    }
                };
                done.push(Done { step: step.command(&patient), outcome });
            }
            retired.push(Retired { patient, steps: done });
        }
        retired
    }

    async fn take(&self, common: &Common, examined: &Examined, patient: &Patient, step: &Step) -> Result<()> {
        let failed = |source| Error::Api { name: patient.name.clone(), source };
        let healer = &examined.fleet.nodes
            [plan::healer(&examined.facts).ok_or_else(|| Error::Broken("no node is healthy".into()))?];
        match step {
            Step::Replace { keyspace, by } => {
                replace(&healer.client, keyspace, patient, &by.id).await.map_err(failed)
            }
            Step::Leave { at } => examined.fleet.nodes[*at].client.leave(false).await.map_err(failed),
            Step::Revoke => self.revoke(common, &healer.address, patient).await,
            Step::Keep(_) => Ok(()),
        }
    }

    /// Runs the command that an operator would: it signs with the key, and refuses what would cut others off.
    async fn revoke(&self, common: &Common, api: &str, patient: &Patient) -> Result<()> {
        let binary = common.binary()?;
        let mut command = tokio::process::Command::new(&binary);
        command.args(["member", "revoke", &patient.id, "--yes", "--api", api]);
        command.envs(self.examination.targets.environment()).stdin(Stdio::null()).kill_on_drop(true);
        command.args(self.key.iter().flat_map(|key| ["--key".as_ref(), key.as_os_str()]));
        let output = command.output().await.map_err(Error::io(&binary))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Broken(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

const DONE: &str = "done";
const KEPT: &str = "kept";
const TO_DO: &str = "to do, with --retire";

impl Retired {
    fn text(&self) -> String {
        let steps = self.steps.iter().map(|it| format!("\n  {}: {}", it.step, it.outcome));
        format!(
            "{} ({}) is unhealthy: {}{}",
            self.patient.name,
            crate::states::short(&self.patient.id),
            self.patient.why,
            steps.collect::<String>()
        )
    }
}

/// Lets another node vote in the place of this one.
async fn replace(
    client: &Client,
    keyspace: &str,
    gone: &Patient,
    by: &str,
) -> std::result::Result<(), starling_api::Error> {
    // Read again: a step before may have changed it.
    let info = client.strong_info(keyspace).await?;
    let members = info.map(|info| info.members).unwrap_or_default();
    let stay = members.into_iter().filter(|member| member.role == "voter" && member.id != gone.id);
    let nodes = std::iter::once(by.to_owned()).chain(stay.map(|member| member.id)).collect();
    client.set_voters(keyspace, &Voters { nodes }).await.map(drop)
}
