# The test script of the seed (stage 1, "Database Schema - Sessions") as it stands there; only its imports are changed.
# ruff: noqa: I001
# fmt: off
# test_stage_1.py
from celery_cascade.persistence import get_db_session
from celery_cascade.persistence.models import Session, SessionState
import uuid

def test_session_state_crud():
    db = get_db_session()
    try:
        # Create parent session
        session = Session(
            id=str(uuid.uuid4()),
            name="Test Session",
            status="active"
        )
        db.add(session)
        db.commit()

        # Create session state
        state = SessionState.create_for_session(
            session_id=session.id,
            mode="copilot",
            conversation_history=[{"role": "user", "content": "Hello"}],
            context_variables={"key": "value"}
        )
        db.add(state)
        db.commit()

        # Query back
        loaded = db.query(SessionState).filter(SessionState.session_id == session.id).first()
        assert loaded is not None
        assert loaded.mode == "copilot"
        assert len(loaded.conversation_history) == 1
        print("✅ SessionState CRUD works")

        # Test cascade delete
        db.delete(session)
        db.commit()
        orphan = db.query(SessionState).filter(SessionState.id == state.id).first()
        assert orphan is None
        print("✅ Cascade delete works")

    finally:
        db.rollback()
        db.close()

if __name__ == "__main__":
    test_session_state_crud()
