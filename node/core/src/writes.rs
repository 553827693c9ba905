//! The node's use of its store: clients' batches, expiry, and the handling of failures.

use bytes::Bytes;
use starling_kv::store::{EXPIRY_STEP_MS, Expired};
use starling_kv::{Batch, Engine, Store};
use starling_proto::message::RumorId;
use starling_proto::rumor::RumorInput;

use crate::core::Timer;
use crate::{Core, Notice, Now, Output, Token, WriteFailure};

/// Between two portions of work on expired entries, milliseconds: three quarters of the gossip thread's time
/// are left to everything else.
const EXPIRE_AGAIN_MS: u64 = 15;
/// Entries that expire within the same multiple of this are reported together, milliseconds: at most so much
/// later than they expire.
const EXPIRED_STEP_MS: u64 = 1_000;
/// Longest wait for an entry that expires, milliseconds: the wall clock may be set meanwhile.
const EXPIRED_WAIT_MS_MAX: u64 = 10_000;

impl<E: Engine> Core<E> {
    /// Group commit: one engine write for all batches, and as few rumors as their size allows. What is too much
    /// for one commit waits for the next one, at once but behind inputs that are due.
    pub(crate) fn handle_writes(&mut self, now: Now, batches: Vec<(Token, Batch)>) {
        for (token, batch) in batches {
            if let Err(failure) = self.check_data_version(&batch) {
                self.outputs.push_back(Output::Written { token, result: Err(failure) });
            } else {
                self.batches.push_back((token, batch));
            }
        }
        self.commit(now);
    }

    /// Commits waiting batches.
    pub(crate) fn commit(&mut self, now: Now) {
        if self.batches.is_empty() {
            return;
        }
        let (mut tokens, batches): (Vec<Token>, Vec<Batch>) = self.batches.drain(..).unzip();
        let Some(store) = &mut self.store else {
            self.refuse(tokens, || WriteFailure::NoStore);
            return;
        };
        match store.commit(now.wall_ms, batches) {
            Ok(committed) => {
                let waiting = tokens.split_off(committed.results.len());
                self.batches.extend(waiting.into_iter().zip(committed.rest));
                if !self.batches.is_empty() {
                    self.timers.set(Timer::Commit, now.mono);
                }
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

    /// Reads the payload of a rumor that a peer has grafted and that is no longer in the cache; `None` if some of its dots
    /// have died: the peer must not hear of that before it has what replaced them, and a session knows the order.
    pub(crate) fn supply(&self, id: &RumorId) -> Option<Bytes> {
        let store = self.store.as_ref()?;
        let part = store.restrict_to_live(&[*id], starling_proto::rumor::PAYLOAD_BYTES_MAX).ok()?;
        (part.rest.is_empty() && part.dead.is_empty() && !part.delta.is_empty()).then_some(part.delta)
    }

    /// Notifies watches of keys that have expired.
    pub(crate) fn notify_expired(&mut self, now: Now) {
        let Some(store) = &mut self.store else { return };
        let expired = store.expired(now.wall_ms);
        match &expired {
            Ok(expired) if expired.more => self.timers.set(Timer::Expired, now.mono + EXPIRE_AGAIN_MS),
            Ok(_) => self.plan_expired(now),
            Err(_) => self.timers.set(Timer::Expired, now.mono + EXPIRED_WAIT_MS_MAX),
        }
        self.on_expired(expired);
    }

    /// Sets the timer for the entry that expires next.
    pub(crate) fn plan_expired(&mut self, now: Now) {
        if let Some(expires_ms) = self.store.as_ref().and_then(Store::next_expiry_ms) {
            let at_ms = (expires_ms / EXPIRED_STEP_MS).saturating_add(1).saturating_mul(EXPIRED_STEP_MS);
            let wait_ms = at_ms.saturating_sub(now.wall_ms).clamp(EXPIRE_AGAIN_MS, EXPIRED_WAIT_MS_MAX);
            self.timers.set_earlier(Timer::Expired, now.mono + wait_ms);
        }
    }

    fn on_expired(&mut self, expired: Result<Expired, starling_kv::Error>) {
        match expired {
            Ok(expired) if expired.changes.is_empty() => {}
            Ok(expired) => self.outputs.push_back(Output::Changed(expired.changes)),
            Err(error) => self.storage_failed(error.to_string()),
        }
    }

    /// Removes what expired a grace ago, unless this node's clock may be wrong.
    pub(crate) fn expire(&mut self, now: Now) {
        let Some(store) = &mut self.store else { return };
        // Every replica removes at the same instants, so that they differ for moments only.
        self.timers.set(Timer::Expire, now.mono + (EXPIRY_STEP_MS - now.wall_ms % EXPIRY_STEP_MS));
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
        let expired = store.expire(now.wall_ms);
        if expired.as_ref().is_ok_and(|it| it.more) {
            self.timers.set(Timer::Expire, now.mono + EXPIRE_AGAIN_MS);
        }
        self.on_expired(expired);
    }

    pub(crate) fn storage_failed(&mut self, error: String) {
        self.counters.storage_failures += 1;
        self.outputs.push_back(Output::Notice(Notice::StorageFailed(error)));
    }
}
