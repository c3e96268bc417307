// What PyTorch's autograd asks of a device before it differentiates: that there is one, which of
// them is current, and whether a stream has to be waited for. Here there is one device of each
// kind, with one stream that never lags. Loaded before torch is imported; see gpu.py.
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <ATen/detail/XPUHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

template <c10::DeviceType kind>
struct OnlyDevice final : c10::impl::NoOpDeviceGuardImpl<kind> {
  c10::Device only() const { return c10::Device(kind, 0); }
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, only()); }

  c10::Device getDevice() const override { return only(); }
  c10::Device exchangeDevice(c10::Device) const override { return only(); }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag)
      const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

using OnlyCuda = OnlyDevice<c10::DeviceType::CUDA>;
using OnlyMps = OnlyDevice<c10::DeviceType::MPS>;
using OnlyXpu = OnlyDevice<c10::DeviceType::XPU>;

} // namespace

namespace c10 {
C10_REGISTER_GUARD_IMPL(CUDA, OnlyCuda)
C10_REGISTER_GUARD_IMPL(MPS, OnlyMps)
C10_REGISTER_GUARD_IMPL(XPU, OnlyXpu)
} // namespace c10

// autograd's accelerator is the kind that says it is there
static c10::DeviceType pretended = c10::DeviceType::CUDA;
extern "C" void pretend(int kind) { pretended = static_cast<c10::DeviceType>(kind); }

namespace at {

template <class Interface, c10::DeviceType kind>
struct OnlyHooks : Interface {
  void init() const override {}
  bool isBuilt() const override { return pretended == kind; }
  bool isAvailable() const override { return pretended == kind; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
};

struct OnlyCudaHooks final : OnlyHooks<CUDAHooksInterface, kCUDA> {
  explicit OnlyCudaHooks(CUDAHooksArgs) {}
  bool hasCUDA() const override { return isAvailable(); }
};
struct OnlyMpsHooks final : OnlyHooks<MPSHooksInterface, kMPS> {
  bool hasMPS() const override { return isAvailable(); }
};
struct OnlyXpuHooks final : OnlyHooks<XPUHooksInterface, kXPU> {
  bool hasXPU() const override { return isAvailable(); }
};
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, OnlyCudaHooks)
C10_REGISTER_CLASS(MPSHooksRegistry, MPSHooks, OnlyMpsHooks)
C10_REGISTER_CLASS(XPUHooksRegistry, XPUHooks, OnlyXpuHooks)

} // namespace at
