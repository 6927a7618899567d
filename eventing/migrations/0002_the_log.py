from __future__ import annotations

from django.db import migrations

# The log is append-only, and that is the database's business: no code path, admin page or shell can change it.
IMMUTABLE = """
CREATE FUNCTION eventing_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Table % is append-only: an event that was recorded can''t be changed or removed.', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Record another event that says what is true now.';
END
$$;
CREATE TRIGGER eventing_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eventing_event
    FOR EACH STATEMENT EXECUTE FUNCTION eventing_refuse();
CREATE TRIGGER eventing_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON eventing_log
    FOR EACH STATEMENT EXECUTE FUNCTION eventing_refuse();
"""

MUTABLE = """
DROP TRIGGER eventing_log_append_only ON eventing_log;
DROP TRIGGER eventing_event_append_only ON eventing_event;
DROP FUNCTION eventing_refuse();
"""

# The outbox empties as fast as it fills and the checkpoints change with every batch, so both are swept after a fixed
# number of dead rows instead of a share of the table, and checkpoints leave room for their new version on the page.
BUSY = """
ALTER TABLE eventing_outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE eventing_checkpoint SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 500);
"""

CALM = """
ALTER TABLE eventing_outbox RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE eventing_checkpoint RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
"""


class Migration(migrations.Migration):
    dependencies = [("eventing", "0001_initial")]

    operations = [
        migrations.RunSQL(IMMUTABLE, MUTABLE),
        migrations.RunSQL(BUSY, CALM),
    ]
