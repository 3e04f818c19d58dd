"""Every error that Mayfly raises on purpose, in modules by the party at fault; import errors from here.

::

    MayflyError
    ├── RequestError            the caller's fault: 4xx
    │   ├── ValidationFailed    ├── Unauthenticated   ├── Forbidden
    │   ├── NotFound            ├── AlreadyFinished   ├── StillRunning
    │   ├── IdempotencyConflict ├── RateLimited       ├── PayloadTooLarge
    │   ├── MalformedBody       ├── UnsupportedMediaType
    │   ├── RangeNotSatisfiable ├── IsolationUnavailable  ├── StdinRefused      ├── ToolAnswerRefused
    │   ├── DigestMismatch      ├── FeatureUnavailable
    │   ├── of users: LocalLoginOff, UserExists, PasswordChangeRequired, LoginRefused, TokenReused (Unauthenticated),
    │   │             LoginSlowed (RateLimited)
    │   ├── of tools: ToolCallFailed, DeclaredInFile, CatalogueChanged
    │   ├── of the door: MalformedRequest, UriTooLong, HeadersTooLarge, TooSlow, HostRefused, OriginRefused
    │   ├── of administration: AlreadyExists, DefaultTenant, IssuerInSettings, TooManyRecords, TenantDisabled
    │   └── of these: PolicyViolation, NotAllowed (ValidationFailed), BlobNotFound, AttemptNotOwner (NotFound),
    │       UnsupportedContentEncoding (UnsupportedMediaType), ToolResultTooLarge (PayloadTooLarge),
    │       TooManyStreams, TooManyToolServers, TenantQueueFull, TenantStoreFull, StdinFull,
    │       TooManyFromAddress, TooManyUploads, TooManyAnswers, TooManyCalls (RateLimited)
    ├── Unavailable             temporarily unavailable: 503 with Retry-After
    │   ├── QueueFull         ├── StoreUnavailable  ── StoreFull      ├── Migrating
    │   ├── PolicyUnavailable ├── BlobsUnavailable  ── BlobsFull
    │   ├── FeatureOff
    │   └── of the door: TooManyConnections, UploadsFull, AnswersFull
    └── PlatformError           Mayfly's fault; ends an execution as errored
        ├── EnvironmentUnavailable  ├── RuntimeUnavailable    ── WeakContainer
        ├── SpecificationRejected   ── SpecificationTampered
        ├── StaleAttempt            ── LeaseLost
        ├── HandedBack
        └── FrameError

A class's docstring is its default message, ``code`` is stable and part of the wire contract, ``status`` is for HTTP.
"""

from __future__ import annotations

from orchestrator.errors.administration import (
    AlreadyExists,
    DefaultTenant,
    IssuerInSettings,
    TenantDisabled,
    TooManyRecords,
)
from orchestrator.errors.base import MayflyError
from orchestrator.errors.door import (
    AnswersFull,
    HeadersTooLarge,
    HostRefused,
    MalformedRequest,
    OriginRefused,
    TooManyAnswers,
    TooManyCalls,
    TooManyConnections,
    TooManyFromAddress,
    TooManyUploads,
    TooSlow,
    UploadsFull,
    UriTooLong,
)
from orchestrator.errors.platform import (
    EnvironmentUnavailable,
    FrameError,
    HandedBack,
    LeaseLost,
    PlatformError,
    RuntimeUnavailable,
    SpecificationRejected,
    SpecificationTampered,
    StaleAttempt,
    WeakContainer,
)
from orchestrator.errors.requests import (
    AlreadyFinished,
    AttemptNotOwner,
    BlobNotFound,
    DigestMismatch,
    FeatureUnavailable,
    Forbidden,
    IdempotencyConflict,
    IsolationUnavailable,
    LimitAboveQuota,
    MalformedBody,
    Mistake,
    NotAllowed,
    NotFound,
    PayloadTooLarge,
    PolicyViolation,
    QuotaExceeded,
    RangeNotSatisfiable,
    RateLimited,
    RequestError,
    StdinFull,
    StdinRefused,
    StillRunning,
    TenantQueueFull,
    TenantStoreFull,
    ToolAnswerRefused,
    ToolResultTooLarge,
    TooManyStreams,
    Unauthenticated,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
    ValidationFailed,
)
from orchestrator.errors.tools import CatalogueChanged, DeclaredInFile, ToolCallFailed, TooManyToolServers
from orchestrator.errors.unavailable import (
    BlobsFull,
    BlobsUnavailable,
    FeatureOff,
    Migrating,
    PolicyUnavailable,
    QueueFull,
    StoreFull,
    StoreUnavailable,
    Unavailable,
)
from orchestrator.errors.users import (
    LocalLoginOff,
    LoginRefused,
    LoginSlowed,
    PasswordChangeRequired,
    TokenReused,
    UserExists,
)

__all__ = [
    "AlreadyExists",
    "AlreadyFinished",
    "AnswersFull",
    "AttemptNotOwner",
    "BlobNotFound",
    "BlobsFull",
    "BlobsUnavailable",
    "CatalogueChanged",
    "DeclaredInFile",
    "DefaultTenant",
    "DigestMismatch",
    "EnvironmentUnavailable",
    "FeatureOff",
    "FeatureUnavailable",
    "Forbidden",
    "FrameError",
    "HandedBack",
    "HeadersTooLarge",
    "HostRefused",
    "IdempotencyConflict",
    "IsolationUnavailable",
    "IssuerInSettings",
    "LeaseLost",
    "LimitAboveQuota",
    "LocalLoginOff",
    "LoginRefused",
    "LoginSlowed",
    "MalformedBody",
    "MalformedRequest",
    "MayflyError",
    "Migrating",
    "Mistake",
    "NotAllowed",
    "NotFound",
    "OriginRefused",
    "PasswordChangeRequired",
    "PayloadTooLarge",
    "PlatformError",
    "PolicyUnavailable",
    "PolicyViolation",
    "QueueFull",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RateLimited",
    "RequestError",
    "RuntimeUnavailable",
    "SpecificationRejected",
    "SpecificationTampered",
    "StaleAttempt",
    "StdinFull",
    "StdinRefused",
    "StillRunning",
    "StoreFull",
    "StoreUnavailable",
    "TenantDisabled",
    "TenantQueueFull",
    "TenantStoreFull",
    "TokenReused",
    "TooManyAnswers",
    "TooManyCalls",
    "TooManyConnections",
    "TooManyFromAddress",
    "TooManyRecords",
    "TooManyStreams",
    "TooManyToolServers",
    "TooManyUploads",
    "TooSlow",
    "ToolAnswerRefused",
    "ToolCallFailed",
    "ToolResultTooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedContentEncoding",
    "UnsupportedMediaType",
    "UploadsFull",
    "UriTooLong",
    "UserExists",
    "ValidationFailed",
    "WeakContainer",
]
