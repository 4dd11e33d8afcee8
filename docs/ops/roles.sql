-- The roles of multicredit on PostgreSQL, with no more rights than each needs.
--
--   multicredit_migrator  owns the tables and functions: `migration up`, `migration down`
--   multicredit_writer    servers and the command line: DATABASE_URL of `multicredit`
--   multicredit_reader    people and reports: reads everything but what opens doors
--   multicredit_tenant    reports for one organization: reads the rows of that organization, by row-level security
--
-- Roles belong to the whole cluster, so the migrations make none. Run this as a superuser in the database, with the
-- schema of multicredit first in the search path (`public` unless you chose another):
--
--   psql --no-psqlrc -v ON_ERROR_STOP=1 -f roles.sql multicredit
--
-- once before the first migration, so that the migrator may make tables, and again after every `migration up`, so that
-- what is new has its rights. Running it again changes nothing. Roles are made without a password, with which nobody can
-- log in over the network: `\password multicredit_writer`.
--
-- The audit log is append-only to the writer: an UPDATE, DELETE or TRUNCATE of it fails with SQLSTATE 42501. So are the
-- ledger's movements, the log of consumptions, refunds, and the versions of prices and plans.
--
-- Which organization a session of the tenant role sees:
--
--   SET multicredit.organization_id = '0199a3d2-7c50-7b2e-8a41-5f0c9d3e1b27'
--
-- Without it, or with anything else in it, there are no rows. Whoever may send any SQL can set it anew, so give people
-- who write SQL a role of their own, which cannot leave its organization: `multicredit_tenant_`, the 32 hexadecimal
-- digits of the organization's id in lower case, and
--
--   CREATE ROLE multicredit_tenant_0199a3d27c507b2e8a415f0c9d3e1b27 LOGIN IN ROLE multicredit_tenant

DO $script$
DECLARE
    roles CONSTANT text[] := ARRAY[
        'multicredit_migrator', 'multicredit_writer', 'multicredit_reader', 'multicredit_tenant'
    ];
    name text;
BEGIN
    FOREACH name IN ARRAY roles LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), name);
    END LOOP;
    -- What tenants may see is no business of theirs: they pay nothing for it, not even in plans. The tables' owner does
    -- not need it.
    ALTER ROLE multicredit_writer BYPASSRLS;
    ALTER ROLE multicredit_reader BYPASSRLS;
    -- As PostgreSQL has it since version 15; databases that come from an earlier one do not.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO multicredit_migrator', current_schema());
END
$script$;

-- Tables: what servers may do with each.
DO $script$
DECLARE
    relation record;
BEGIN
    FOR relation IN
        SELECT c.oid, c.oid::regclass AS name, c.relkind, known.rights
        FROM (VALUES
            ('alert_cursors', 'SELECT, INSERT, UPDATE'),
            ('alert_rules', 'SELECT, INSERT, UPDATE, DELETE'),
            ('alert_states', 'SELECT, INSERT, UPDATE, DELETE'),
            ('api_keys', 'SELECT, INSERT, UPDATE'),
            ('audit_chains', 'SELECT, INSERT, UPDATE'),
            ('audit_log', 'SELECT, INSERT'),
            ('background_jobs', 'SELECT, INSERT, UPDATE'),
            ('credit_action_versions', 'SELECT, INSERT'),
            ('credit_actions', 'SELECT, INSERT, UPDATE'),
            ('credit_consumption_logs', 'SELECT, INSERT'),
            ('credit_draws', 'SELECT, INSERT, UPDATE'),
            ('credit_grants', 'SELECT, INSERT, UPDATE'),
            ('credit_holds', 'SELECT, INSERT, UPDATE'),
            ('credit_movements', 'SELECT, INSERT'),
            ('credit_refunds', 'SELECT, INSERT'),
            ('dashboard_sessions', 'SELECT, INSERT, DELETE'),
            ('idempotency_keys', 'SELECT, INSERT, DELETE'),
            ('mv_organization_usage_summary', 'SELECT'),
            ('organization_credits', 'SELECT, INSERT, UPDATE'),
            ('organization_members', 'SELECT, INSERT, UPDATE, DELETE'),
            ('organizations', 'SELECT, INSERT, UPDATE'),
            ('performance_reports', 'SELECT, INSERT'),
            ('plan_versions', 'SELECT, INSERT'),
            ('plans', 'SELECT, INSERT, UPDATE'),
            ('raised_events', 'SELECT, INSERT'),
            ('retention_checkpoints', 'SELECT, INSERT, UPDATE'),
            ('seaql_migrations', 'SELECT'),
            ('subscriptions', 'SELECT, INSERT, UPDATE, DELETE'),
            ('top_up_rules', 'SELECT, INSERT, UPDATE, DELETE'),
            ('top_ups', 'SELECT, INSERT, UPDATE'),
            ('usage_rollups', 'SELECT, INSERT, UPDATE'),
            ('usage_totals', 'SELECT, INSERT, UPDATE'),
            ('webhook_cursors', 'SELECT, INSERT, UPDATE, DELETE'),
            ('webhook_deliveries', 'SELECT, INSERT, DELETE'),
            ('webhook_endpoints', 'SELECT, INSERT, UPDATE')
        ) AS known (name, rights)
        JOIN pg_class c ON c.relname = known.name AND c.relnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format(
            'REVOKE ALL ON %s FROM PUBLIC, multicredit_writer, multicredit_reader, multicredit_tenant', relation.name
        );
        EXECUTE format('GRANT %s ON %s TO multicredit_writer', relation.rights, relation.name);
        IF relation.name::text LIKE '%api_keys' THEN
            -- All but the digests of the keys.
            EXECUTE format(
                'GRANT SELECT (id, name, prefix, scopes, organization_id, created_at, revoked_at) ON %s TO multicredit_reader',
                relation.name
            );
        ELSIF relation.name::text LIKE '%webhook_endpoints' THEN
            -- All but the secrets.
            EXECUTE format(
                'GRANT SELECT (id, organization_id, url, description, events, wants_consumed, wants_refused, enabled, '
                'is_gone, secret_made_at, previous_until, created_at, updated_at, deleted_at) ON %s '
                'TO multicredit_reader',
                relation.name
            );
        ELSIF relation.name::text NOT LIKE '%idempotency_keys' AND relation.name::text NOT LIKE '%dashboard_sessions' THEN
            EXECUTE format('GRANT SELECT ON %s TO multicredit_reader', relation.name);
        END IF;
        EXECUTE format(
            'ALTER %s %s OWNER TO multicredit_migrator',
            CASE relation.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, relation.name
        );
    END LOOP;
    -- Partitions are reached through their table, whose policies then hold, and belong to whoever makes and drops them.
    FOR relation IN
        SELECT child.oid::regclass AS name
        FROM pg_inherits i
        JOIN pg_class child ON child.oid = i.inhrelid
        JOIN pg_class parent ON parent.oid = i.inhparent
        WHERE parent.relkind = 'p' AND child.relkind = 'r'
        AND parent.relnamespace = current_schema()::regnamespace
        AND pg_has_role('multicredit_migrator', parent.relowner, 'MEMBER')
    LOOP
        EXECUTE format(
            'REVOKE ALL ON %s FROM PUBLIC, multicredit_writer, multicredit_reader, multicredit_tenant', relation.name
        );
        EXECUTE format('ALTER TABLE %s OWNER TO multicredit_migrator', relation.name);
    END LOOP;
END
$script$;

-- Rows: what an organization may see of itself. Nothing else has rights for the tenant role, what is added later included.
-- A table of which operators keep something under an organization's id (webhooks, states of alerts) is not among these.
DO $script$
DECLARE
    relation record;
    -- A subquery without a reference to the table, so that it is found out once a statement. What is recorded of no
    -- organization has the id of zeros, and is nobody's.
    tenant CONSTANT text := $policy$(
        SELECT nullif(
            CASE
                WHEN session_user::text ~ '^multicredit_tenant_[0-9a-f]{32}$' THEN right(session_user::text, 32)
                WHEN current_setting('multicredit.organization_id', true)
                    ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
                    THEN current_setting('multicredit.organization_id', true)
            END::uuid,
            '00000000-0000-0000-0000-000000000000'
        )
    )$policy$;
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, known.column_name
        FROM (VALUES
            ('alert_rules', 'organization_id'),
            ('audit_log', 'organization_id'),
            ('credit_consumption_logs', 'organization_id'),
            ('credit_draws', 'organization_id'),
            ('credit_grants', 'organization_id'),
            ('credit_holds', 'organization_id'),
            ('credit_movements', 'organization_id'),
            ('credit_refunds', 'organization_id'),
            ('organization_credits', 'organization_id'),
            ('organization_members', 'organization_id'),
            ('organizations', 'id'),
            ('raised_events', 'organization_id'),
            ('retention_checkpoints', 'organization_id'),
            ('subscriptions', 'organization_id'),
            ('top_up_rules', 'organization_id'),
            ('top_ups', 'organization_id'),
            ('usage_rollups', 'organization_id'),
            ('usage_totals', 'organization_id')
        ) AS known (name, column_name)
        JOIN pg_class c ON c.relname = known.name AND c.relnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation.name);
        -- For roles that are members of these two: they have their rights, but not their way past policies.
        EXECUTE format('DROP POLICY IF EXISTS of_writers ON %s', relation.name);
        EXECUTE format('CREATE POLICY of_writers ON %s TO multicredit_writer USING (true)', relation.name);
        EXECUTE format('DROP POLICY IF EXISTS of_readers ON %s', relation.name);
        EXECUTE format('CREATE POLICY of_readers ON %s FOR SELECT TO multicredit_reader USING (true)', relation.name);
        EXECUTE format('DROP POLICY IF EXISTS of_a_tenant ON %s', relation.name);
        EXECUTE format(
            'CREATE POLICY of_a_tenant ON %s FOR SELECT TO multicredit_tenant USING (%I = %s)',
            relation.name, relation.column_name, tenant
        );
        EXECUTE format('GRANT SELECT ON %s TO multicredit_tenant', relation.name);
    END LOOP;
END
$script$;

-- Functions: servers call them, and nobody else does. Those with the rights of their owner have those of the migrator.
DO $script$
DECLARE
    routine record;
BEGIN
    FOR routine IN
        SELECT p.oid::regprocedure AS name
        FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace
        AND (
            p.proname LIKE 'consume\_credits\_%' OR p.proname LIKE 'credit\_%' OR p.proname LIKE 'settle\_%'
            OR p.proname IN (
                'delete_sealed_consumption_logs', 'drop_sealed_consumption_log_partition',
                'ensure_consumption_log_partitions', 'refresh_organization_usage_summary'
            )
        )
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', routine.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO multicredit_writer', routine.name);
        EXECUTE format('ALTER FUNCTION %s OWNER TO multicredit_migrator', routine.name);
    END LOOP;
END
$script$;

-- Types of arguments.
DO $script$
DECLARE
    argument record;
BEGIN
    FOR argument IN
        SELECT t.oid::regtype AS name
        FROM pg_type t
        WHERE t.typnamespace = current_schema()::regnamespace AND t.typname IN ('express_demand', 'express_item')
    LOOP
        EXECUTE format('ALTER TYPE %s OWNER TO multicredit_migrator', argument.name);
    END LOOP;
END
$script$;
