//! What a service does besides its role, and one process of it only: it tells the service manager
//! how it is, answers for the watchdog, and serves its status and its metrics.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::scope::Scope;

/// How long the last status may take to be told; it is one datagram.
const LAST_STATUS: Duration = Duration::from_secs(1);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks, before they are started.
pub(super) struct Tasks {
    /// Ends with the role, after the last line.
    pub(super) announce: Task,
    /// The file of its socket goes with it.
    pub(super) status: Task,
    pub(super) metrics: Task,
    pub(super) watchdog: Task,
}

/// See the module.
pub(super) struct Front {
    announcing: Scope,
    serving: Scope,
}

impl Front {
    /// Nothing runs yet.
    pub(super) fn new() -> Self {
        Self {
            announcing: Scope::new("announcing"),
            serving: Scope::new("beside the role"),
        }
    }

    /// Starts `tasks`.
    pub(super) fn start(&self, tasks: Tasks) {
        let spawn = |scope: &Scope, name, task: Task| {
            let stop = scope.clone();
            scope.spawn(name, async move {
                stop.run(task).await;
            });
        };
        spawn(&self.announcing, "notify", tasks.announce);
        spawn(&self.serving, "status socket", tasks.status);
        spawn(&self.serving, "metrics", tasks.metrics);
        spawn(&self.serving, "watchdog", tasks.watchdog);
    }

    /// Ends what runs, after the last line about a role that has ended, which must be told before
    /// the process is gone.
    pub(super) async fn finish(&self) {
        self.announcing.finish(LAST_STATUS).await;
        self.leave().await;
    }

    /// Ends what runs, and tells nothing more: another process does it from now on.
    pub(super) async fn leave(&self) {
        for scope in [&self.announcing, &self.serving] {
            scope.cancel();
            scope.finish(LAST_STATUS).await;
        }
    }
}
