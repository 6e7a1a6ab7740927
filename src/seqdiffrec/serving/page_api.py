"""What only the page asks for."""

from fastapi import APIRouter

router = APIRouter(prefix="/page", include_in_schema=False)
