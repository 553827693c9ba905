//! The node's use of its store: clients' batches, expiry, and the handling of failures.

use bytes::Bytes;
use starling_kv::{Batch, Engine};
use starling_proto::message::RumorId;
use starling_proto::rumor::RumorInput;

use crate::core::Timer;
use crate::{Core, Notice, Now, Output, Token, WriteFailure};

impl<E: Engine> Core<E> {
    /// Group commit: one engine write for all batches, and as few rumors as their size allows.
    pub(crate) fn handle_writes(&mut self, now: Now, batches: Vec<(Token, Batch)>) {
        let (mut tokens, mut allowed) = (Vec::new(), Vec::new());
        for (token, batch) in batches {
            if let Err(failure) = self.check_data_version(&batch) {
                self.outputs.push_back(Output::Written { token, result: Err(failure) });
            } else {
                tokens.push(token);
                allowed.push(batch);
            }
        }
        if allowed.is_empty() {
            return;
        }
        let Some(store) = &mut self.store else {
            self.refuse(tokens, || WriteFailure::NoStore);
            return;
        };
        match store.commit(now.wall_ms, allowed) {
            Ok(committed) => {
                for (token, result) in tokens.into_iter().zip(committed.results) {
                    self.outputs
                        .push_back(Output::Written { token, result: result.map_err(WriteFailure::from) });
                }
                self.changed(now, committed.changes);
                for (dots, payload) in committed.rumors {
                    #[cfg(planted)]
                    if starling_planted::on(starling_planted::Bug::WriteNotTold) {
                        continue;
                    }
                    self.rumor(now, RumorInput::Published { id: dots, payload });
                }
            }
            Err(error) => {
                self.storage_failed(format!("{error}: {}", error.hint()));
                self.refuse(tokens, || WriteFailure::Storage(error.clone()));
            }
        }
    }

    fn refuse(&mut self, tokens: Vec<Token>, failure: impl Fn() -> WriteFailure) {
        let written = |token| Output::Written { token, result: Err(failure()) };
        self.outputs.extend(tokens.into_iter().map(written));
    }

    /// Reads the payload of a rumor that a peer has grafted and that is no longer in the cache.
    pub(crate) fn supply(&self, id: &RumorId) -> Option<Bytes> {
        let (payload, rest) =
            self.store.as_ref()?.restrict(&[*id], starling_proto::rumor::PAYLOAD_BYTES_MAX).ok()?;
        (rest.is_empty() && !payload.is_empty()).then_some(payload)
    }

    /// Removes expired entries, unless this node's clock may be wrong.
    pub(crate) fn expire(&mut self, now: Now) {
        let Some(store) = &mut self.store else { return };
        self.timers.set(Timer::Expire, now.mono + starling_kv::store::EXPIRY_STEP_MS);
        let offset_ms = self.detector.clock_offset_ms();
        let may_expire = self.clock.may_expire(now, offset_ms, self.healing.knows_anybody());
        if let Some(offset_ms) = self.clock.newly_off(offset_ms) {
            self.outputs.push_back(Output::Notice(Notice::ClockOff { offset_ms }));
        }
        #[cfg(planted)]
        let may_expire = may_expire || starling_planted::on(starling_planted::Bug::ExpiryOnSkewedClock);
        if !may_expire {
            return;
        }
        match store.expire(now.wall_ms) {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => self.outputs.push_back(Output::Changed(changes)),
            Err(error) => self.storage_failed(error.to_string()),
        }
    }

    pub(crate) fn storage_failed(&mut self, error: String) {
        self.counters.storage_failures += 1;
        self.outputs.push_back(Output::Notice(Notice::StorageFailed(error)));
    }
}
