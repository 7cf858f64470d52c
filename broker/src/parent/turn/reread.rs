//! HUP: the settings are read again. What concerns the parent is changed here; what concerns
//! the router is told to it, and is known to the next one by its birth.

use crate::link::{ConfigRead, Signal, ToRouter};
use crate::parent::clock;
use crate::parent::{Changed, Reread};

use super::Parent;

impl Parent<'_> {
    /// Gives what the router is to be told instead: a reload, or if the settings cannot be
    /// read, only that the log is to be opened again.
    pub(super) fn read_settings_again(&mut self) -> Signal {
        (self.setup.on_reopen)();
        if self.stop.has_begun {
            return Signal::Hup;
        }
        let read = (self.setup.on_hup)();
        if let Some(last) = &mut self.setup.config_read {
            let succeeded = !matches!(read, Reread::Refused);
            *last = ConfigRead { succeeded, at: clock::now() };
            let last = *last;
            self.tell(ToRouter::ConfigRead(last));
        }
        match read {
            Reread::Same => Signal::Hup,
            Reread::Refused => Signal::Usr1,
            Reread::Changed(changed) => {
                self.change(*changed);
                Signal::Hup
            }
        }
    }

    fn change(&mut self, changed: Changed) {
        let Changed { recipes, hooks, drain, settings_text, for_router } = changed;
        for (number, recipe) in recipes {
            if let Some(recipes) = self.recipes.get_mut(number) {
                recipes.stage(recipe);
            }
        }
        self.hooks.replace(hooks);
        self.setup.drain = drain;
        self.setup.settings_text = settings_text;
        // Before the reload, whose workers are to be started and asked as it is now.
        for settings in for_router {
            self.tell(ToRouter::Configured { settings });
        }
    }
}
