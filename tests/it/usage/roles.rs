//! A server whose role does not own the schema does its jobs all the same, as far as the schema lets it.

use multicredit_store::{Job, JobDone, JobRun, Store, StoreConfig};
use sea_orm::ConnectionTrait;
use tests::fixtures::{ai, organization, request};
use tests::{Engine, run};

#[test]
fn a_server_without_rights_to_the_schema_refreshes_and_makes_partitions() {
    run(Engine::Postgres, async |db| {
        let look = db.connect().await.unwrap();
        // Roles are the cluster's, and other tests run beside: a name that no other test has.
        #[expect(clippy::disallowed_methods, reason = "it names a role of a test")]
        let role = format!("server_{}", uuid::Uuid::now_v7().simple());
        for sql in [
            format!("CREATE ROLE {role} LOGIN PASSWORD 'of-a-test'"),
            format!("GRANT USAGE ON SCHEMA public TO {role}"),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
        ] {
            look.execute_unprepared(&sql).await.unwrap();
        }
        let owner = db.url().split_once("://").unwrap().1;
        let rest = owner.split_once('@').map_or(owner, |(_, rest)| rest);
        let store = Store::open(StoreConfig::new(format!("postgres://{role}:of-a-test@{rest}"))).await.unwrap();
        let acme = organization(&store, "acme", ai(5)).await;
        store.consume(acme, request("ai_chat", 1), None).await.unwrap();
        look.execute_unprepared("CREATE TABLE somebody_elses AS SELECT n FROM generate_series(1, 10) n").await.unwrap();
        for (job, expected) in [
            (Job::RefreshSummary, JobDone::Refreshed { materialized: true }),
            (Job::MakePartitions, JobDone::Partitions { made: 0 }),
            (Job::PruneKeys, JobDone::Pruned { keys: 0 }),
            (Job::Vacuum, JobDone::Vacuumed { tables: Vec::new() }),
        ] {
            assert_eq!(store.do_job(job, None).await.unwrap(), JobRun::Done(expected), "{}", job.as_str());
        }
        assert!(
            matches!(store.do_job(Job::RollUpUsage, None).await.unwrap(), JobRun::Done(JobDone::RolledUp(done)) if done.attempts == 1)
        );
        store.close().await;
        look.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    });
}
