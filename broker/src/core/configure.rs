//! Other settings, in the middle of everything. What is under way goes on as it began: a
//! deadline that runs, the share that a process was given when it was made, a request that
//! was admitted. What begins from here on, and the size of the pool, follow.

use super::autoscale::Cause;
use super::settings::Settings;
use super::{Core, Turn};

impl<B: Clone> Core<B> {
    pub(super) fn configure(&mut self, settings: Settings, turn: &mut Turn<'_, B>) {
        let earlier = std::mem::replace(&mut self.settings, settings);
        if self.settings.prefetch != earlier.prefetch {
            self.crew.set_prefetch(self.settings.prefetch);
            self.withdraw_everything(turn);
        }
        let Settings { workers, min, max, .. } = self.settings;
        // Unless the size itself was changed, the operator's stays, as far as the limits let it.
        let wished = if workers == earlier.workers { self.pool.target } else { workers };
        self.set_target(wished.clamp(min, max), Cause::Configuration, turn);
        if self.settings.autoscale != earlier.autoscale {
            self.stop_scaling_up();
            self.stop_scaling_down();
            if let Some(rules) = self.settings.autoscale {
                self.pool.autoscale.start_afresh(turn.now, rules.up_wait);
                self.requests.keep_ages();
            } else {
                self.requests.forget_ages();
            }
        }
        if self.settings.spares != earlier.spares {
            self.forget_spare_check();
        }
        // The next router must not take the change of the size for one of its own.
        turn.act(super::Action::Remember(self.memory()));
    }
}
