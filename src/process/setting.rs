//! What a master goes by at one time: a configuration, and the sockets that belong to it.

use super::holding::Holding;
use super::listeners;
use super::master::Patience;
use super::supervisor::SuperviseError;
use super::worker::placement;
use crate::config::Config;

/// A configuration and the sockets that belong to it.
pub(crate) struct Setting {
    pub(crate) config: Config,
    pub(crate) shards: usize,
    pub(crate) holding: Holding,
}

impl Setting {
    /// Takes the sockets that were passed on to this process, or opens those of the configuration.
    pub(crate) fn new(config: Config) -> Result<Setting, SuperviseError> {
        let shards = placement(&config)?.len();
        let holding = match listeners::passed_on()? {
            Some(sockets) => Holding::passed_on(sockets, &config)?,
            None => Holding::open(&config, shards)?,
        };
        Ok(Setting {
            config,
            shards,
            holding,
        })
    }

    /// What it becomes with another configuration; the error is a sentence.
    pub(crate) fn changed(&self, config: Config) -> Result<Setting, String> {
        let (old, new) = (&self.config.process, &config.process);
        let fixed = [
            ("process.mode", old.mode == new.mode),
            ("process.daemon", old.daemon == new.daemon),
            ("process.pid_file", old.pid_file == new.pid_file),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, stays)| !stays) {
            return Err(format!(
                "{key} has changed, which takes a new start: stop the server and start it again, or \
                 set {key} back"
            ));
        }
        let shards = placement(&config).map_err(|error| error.to_string())?.len();
        let changed = self.holding.changed(&config, shards);
        let holding = changed.map_err(|error| error.to_string())?;
        Ok(Setting {
            config,
            shards,
            holding,
        })
    }

    /// How patient a master is with it.
    pub(crate) fn patience(&self) -> Patience {
        let config = &self.config;
        Patience {
            respawn_max_ms: config.process.respawn_max_ms.into(),
            ready_ms: config.process.ready_ms.into(),
            drain_ms: config.timeouts.drain_ms.into(),
            stop_ms: config.timeouts.stop_ms.into(),
        }
    }
}
